"""Communication between the ranks of one machine through shared memory, which takes fewer copies than sockets.

Each rank has a region, which it writes and the other ranks read: a counter of exchanges, then two halves, which are
used in turns. A half has a header, then what the rank sends. When all counters have reached exchange n, every rank has
finished reading exchange n - 1, so the half of exchange n - 1 may be overwritten.
"""

import struct
from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from embedding.lost_rank import LostRankError
from embedding.shared_regions import Region, open_regions
from kernels.library import call


class SharedMemory:
    """The regions of all ranks. All ranks must make the same exchanges in the same order.

    Args:
        process: process id of each rank.
        seconds: how long a rank waits for another.
    """

    def __init__(self, regions: list[Region], process: list[int], rank: int, seconds: float) -> None:
        self.regions = regions
        self.rank = rank
        self.seconds = seconds
        self.exchanges = 0
        self._counters = torch.tensor([region.counter.data_ptr() for region in regions])
        self._process = torch.tensor(process)
        self._numbers = struct.Struct(f"={len(regions) + 1}q")
        """The header: whether the rank's data fit, and a number for each rank."""

    @classmethod
    def start(cls, seconds: float) -> "SharedMemory | None":
        """Opens the memory; None if the ranks can't share any: see `open_regions`. Collective."""
        opened = open_regions()
        return None if opened is None else cls(*opened, dist.get_rank(), seconds)

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
        """A tensor to fill with what this rank gives to the next exchange, which then need not copy it.

        It is in this rank's region if it fits there, else elsewhere.
        """
        if self._fits(prod(shape) * dtype.itemsize):
            return self.regions[self.rank].numbers(self._data(self.exchanges + 1), shape, dtype)
        return torch.empty(tuple(shape), dtype=dtype)

    def all_to_all(
        self, value: Shaped[Tensor, "S *d"], send: list[int]
    ) -> tuple[Shaped[Tensor, "T *d"], list[int]] | None:
        """Sends the first send[0] rows to rank 0, the next send[1] to rank 1 and so on. Collective.

        Returns:
            The rows that arrived, and how many came from each rank. None, on all ranks, if the rows of one rank do not
            fit into its region.
        """
        before, own, after = value.split(self._around(send))
        headers = self._exchange([before, after], self._to_others(send))
        if headers is None:
            return None
        receive = [header[self.rank] for header in headers]
        receive[self.rank] = len(own)
        arrived = value.new_empty((sum(receive), *value.shape[1:]))
        arrived[sum(receive[: self.rank]) :][: len(own)] = own
        self._read(arrived, receive, headers)
        return arrived, receive

    def fetch(
        self, weight: Shaped[Tensor, "L *d"], row: Int64[Tensor, " K"], asked: list[int], wanted: list[int]
    ) -> Shaped[Tensor, "U *d"] | None:
        """Sends asked[k] rows of `weight` to each rank k, and gets wanted[k] from it. Collective.

        Args:
            row: the rows that are asked for, grouped by the rank that gets them.
        Returns:
            The rows that arrived, in the order of ranks. None, on all ranks, if the rows of one rank do not fit.
        """
        shape, (before, own, after) = weight.shape[1:], row.split(self._around(asked))
        size = len(before) + len(after)
        rows = self.room((size, *shape), weight.dtype)
        torch.index_select(weight, 0, before, out=rows[: len(before)])
        torch.index_select(weight, 0, after, out=rows[len(before) :])
        arrived = weight.new_empty((sum(wanted), *shape))
        place = arrived[sum(wanted[: self.rank]) :][: len(own)]
        # While others still write theirs.
        headers = self._exchange([rows], self._to_others(asked), lambda: torch.index_select(weight, 0, own, out=place))
        if headers is None:
            return None
        self._read(arrived, wanted, headers)
        return arrived

    def deliver(self, value: Shaped[Tensor, "S *d"], send: list[int]) -> list[Shaped[Tensor, "_ *d"]] | None:
        """What `all_to_all` does, without a copy of what arrives. Collective.

        Args:
            value: from `room`, or any other tensor, which is copied.
        Returns:
            The rows that came from each rank, in the memory of that rank: they are there until the next exchange.
            None, on all ranks, if the rows of one rank do not fit.
        """
        before, own, after = value.split(self._around(send))
        place = self._data(self.exchanges + 1)
        if value.numel() and value.data_ptr() == self.regions[self.rank].numbers(place, [1], value.dtype).data_ptr():
            headers = self._exchange([value], send)
        else:
            headers = self._exchange([before, after], self._to_others(send))
        if headers is None:
            return None
        row, arrived = value.element_size() * value.shape[1:].numel(), []
        for rank, (header, region) in enumerate(zip(headers, self.regions, strict=True)):
            if rank == self.rank:
                arrived.append(own)
                continue
            begin = self._data(self.exchanges) + row * sum(header[: self.rank])
            arrived.append(region.numbers(begin, (header[self.rank], *value.shape[1:]), value.dtype))
        return arrived

    def add(self, value: Shaped[Tensor, "*d"]) -> bool:
        """Puts the sum of all ranks' values in the place of `value`, added in the order of ranks. Collective.

        False, on all ranks, if it does not fit; then nothing has changed.
        """
        if self._exchange([value], [0] * len(self.regions)) is None:
            return False
        begin = self._data(self.exchanges)
        first, second, *others = (region.numbers(begin, value.shape, value.dtype) for region in self.regions)
        torch.add(first, second, out=value)
        for other in others:
            value += other
        return True

    def gather(self, value: Shaped[Tensor, "B *d"]) -> list[Shaped[Tensor, "_ *d"]] | None:
        """The tensors of all ranks, in the order of ranks; their numbers of rows may differ. Collective.

        None, on all ranks, if the tensor of one rank does not fit.
        """
        headers = self._exchange([value], [len(value)] * len(self.regions))
        if headers is None:
            return None
        begin, shape = self._data(self.exchanges), value.shape[1:]
        return [
            region.numbers(begin, (header[self.rank], *shape), value.dtype).clone()
            for header, region in zip(headers, self.regions, strict=True)
        ]

    def _around(self, numbers: list[int]) -> list[int]:
        """The sums of the numbers of ranks before this one, of this one, and of those after it."""
        before, own = sum(numbers[: self.rank]), numbers[self.rank]
        return [before, own, sum(numbers) - before - own]

    def _to_others(self, numbers: list[int]) -> list[int]:
        return [0 if rank == self.rank else number for rank, number in enumerate(numbers)]

    def _read(self, arrived: Shaped[Tensor, "T *d"], receive: list[int], headers: list[tuple[int, ...]]) -> None:
        """Copies what others have sent to its place in `arrived`."""
        row, place = arrived.element_size() * arrived.shape[1:].numel(), 0
        for rank, (header, region, count) in enumerate(zip(headers, self.regions, receive, strict=True)):
            if rank != self.rank and count:
                begin = self._data(self.exchanges) + row * sum(header[: self.rank])
                arrived[place : place + count] = region.numbers(begin, (count, *arrived.shape[1:]), arrived.dtype)
            place += count

    def _data(self, exchange: int) -> int:
        """The first byte of what ranks send in an exchange, after the header."""
        return self._half(exchange) + self._numbers.size

    def _half(self, exchange: int) -> int:
        return self.regions[self.rank].begin(exchange % 2)

    def _fits(self, size: int) -> bool:
        return self._numbers.size + size <= self.regions[self.rank].half

    def _exchange(
        self, values: list[Shaped[Tensor, "..."]], numbers: list[int], meanwhile: Callable[[], object] | None = None
    ) -> list[tuple[int, ...]] | None:
        """Writes values, and a number for each rank; returns the numbers of all ranks. None if a value does not fit.

        Args:
            values: one that `room` gave is there already.
            meanwhile: called before this rank waits for others.
        """
        region, fits = self.regions[self.rank], self._fits(sum(value.nbytes for value in values))
        self.exchanges += 1
        self._numbers.pack_into(region.memory, self._half(self.exchanges), int(fits), *numbers)
        if fits:
            place = self._data(self.exchanges)
            for value in values:
                if value.numel():
                    there = region.numbers(place, value.shape, value.dtype)
                    if there.data_ptr() != value.data_ptr():
                        there.copy_(value)
                    place += value.nbytes
        call("publish", region.counter, self.exchanges)
        if meanwhile is not None:
            meanwhile()
        self._wait()
        half = self._half(self.exchanges)
        headers = [self._numbers.unpack_from(each.memory, half) for each in self.regions]
        return [header[1:] for header in headers] if all(header[0] for header in headers) else None

    def _wait(self) -> None:
        sizes = len(self.regions), self.exchanges, float(self.seconds)
        missing = call("wait_for_all", self._counters, self._process, *sizes)
        if missing >= len(self.regions):
            raise LostRankError(
                f"rank {missing - len(self.regions)} did not take part in an exchange within {self.seconds:g} seconds "
                "(launch.timeout_seconds): it hangs, or has much more to do than the others",
                hangs=True,
            )
        if missing >= 0:
            raise LostRankError(f"rank {missing} has died", hangs=False)
