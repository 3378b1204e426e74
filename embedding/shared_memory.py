"""Communication between the ranks of one machine through shared memory, which takes fewer copies than sockets.

Each rank has a region, which it writes and the other ranks read: a counter of exchanges, then two halves, which are
used in turns. When all counters have reached exchange n, every rank has finished reading exchange n - 1, so the half
of exchange n - 1 may be overwritten.
"""

import errno
import logging
import mmap
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from embedding.lost_rank import LostRankError
from kernels.library import call, load

log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")
_LINE = 64
"""Bytes of a cache line; the counter takes one of its own."""
_MOST = _LINE + (32 << 20)
"""Most bytes of a region. A message larger than a half of it goes through the process group instead, which costs
little in comparison."""
_LEAST = 1 << 20
"""Fewest bytes of a region; with less room, sockets are used."""
_SHARE = 3 / 4
"""Share of the free room that all regions together may take. Containers often have 64 MiB in all."""


@dataclass(frozen=True)
class _Region:
    counter: Tensor
    halves: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, file: int) -> "_Region":
        memory = torch.frombuffer(mmap.mmap(file, 0), dtype=torch.uint8)
        half = (len(memory) - _LINE) // (2 * _LINE) * _LINE
        first, second, _ = memory[_LINE:].split([half, half, len(memory) - _LINE - 2 * half])
        return cls(memory[:8].view(torch.int64), (first, second))


class SharedMemory:
    """The regions of all ranks. All ranks must make the same exchanges in the same order.

    Args:
        process: process id of each rank.
        seconds: how long a rank waits for another.
    """

    def __init__(self, regions: list[_Region], process: list[int], rank: int, seconds: float) -> None:
        self.regions = regions
        self.rank = rank
        self.seconds = seconds
        self.exchanges = 0
        self._counters = torch.tensor([region.counter.data_ptr() for region in regions])
        self._process = torch.tensor(process)
        self._header = 8 * (len(regions) + 1)

    @classmethod
    def start(cls, seconds: float) -> "SharedMemory | None":
        """Makes and maps the regions; None if the ranks are on several machines or there is no room. Collective."""
        possible = load() is not None and _FOLDER.is_dir()  # no compiler (logged elsewhere), or not Linux
        world_size = dist.get_world_size()
        free: list[int] = [0] * world_size
        dist.all_gather_object(free, _free() if possible else 0)
        here: tuple[str, str, int] | str | None = None
        path = None
        if possible:
            try:
                # The same size on all ranks, from the room that was free before any rank took some.
                path = _create(min(_MOST, int(min(free) * _SHARE) // world_size))
                here = _machine(), str(path), os.getpid()
            except OSError as error:
                here = error.strerror
        ranks: list[tuple[str, str, int] | str | None] = [None] * world_size
        dist.all_gather_object(ranks, here)
        known = [each for each in ranks if isinstance(each, tuple)]
        regions = _map([path for _, path, _ in known]) if len({machine for machine, _, _ in known}) == 1 else []
        mapped: list[int] = [0] * world_size
        dist.all_gather_object(mapped, len(regions))
        if path is not None:
            path.unlink()  # the mapping stays valid, and no file is left if the run dies
        if min(mapped) < world_size:
            reasons = [each for each in ranks if isinstance(each, str)]
            if reasons and dist.get_rank() == 0:
                log.warning("ranks can't share memory in %s (%s): they use slower sockets", _FOLDER, reasons[0])
            return None
        return cls(regions, [process for _, _, process in known], dist.get_rank(), seconds)

    def all_to_all(
        self, value: Shaped[Tensor, "S *d"], send: list[int]
    ) -> tuple[Shaped[Tensor, "T *d"], list[int]] | None:
        """Sends the first send[0] rows to rank 0, the next send[1] to rank 1 and so on. Collective.

        Returns:
            The rows that arrived, and how many came from each rank. None, on all ranks, if the rows of one rank do not
            fit into its region.
        """
        shared = self._show(value, send)
        if shared is None:
            return None
        headers, data = shared
        receive = [header[self.rank] for header in headers]
        arrived = value.new_empty((sum(receive), *value.shape[1:]))
        row = value.element_size() * value.shape[1:].numel()
        pieces = _bytes_of(arrived).split([row * rows for rows in receive])
        for header, of_rank, piece in zip(headers, data, pieces, strict=True):
            piece.copy_(of_rank[row * sum(header[: self.rank]) :][: len(piece)])
        return arrived, receive

    def add(self, value: Shaped[Tensor, "*d"]) -> Shaped[Tensor, "*d"] | None:
        """The sum of all ranks' values, added in the order of ranks. Collective.

        None, on all ranks, if it does not fit.
        """
        shared = self._show(value, [0] * len(self.regions))
        if shared is None:
            return None
        size = value.numel() * value.element_size()
        first, *others = (of_rank[:size].view(value.dtype).view(value.shape) for of_rank in shared[1])
        total = first.clone()
        for other in others:
            total += other
        return total

    def gather(self, value: Shaped[Tensor, "B *d"]) -> list[Shaped[Tensor, "_ *d"]] | None:
        """The tensors of all ranks, in the order of ranks; their numbers of rows may differ. Collective.

        None, on all ranks, if the tensor of one rank does not fit.
        """
        shared = self._show(value, [len(value)] * len(self.regions))
        if shared is None:
            return None
        row = value.element_size() * value.shape[1:].numel()
        gathered = []
        for header, of_rank in zip(*shared, strict=True):
            rows = value.new_empty((header[self.rank], *value.shape[1:]))
            _bytes_of(rows).copy_(of_rank[: row * len(rows)])
            gathered.append(rows)
        return gathered

    def _show(self, value: Shaped[Tensor, "*d"], numbers: list[int]) -> tuple[list[list[int]], list[Tensor]] | None:
        """Writes a value, and a number for each rank; returns what all ranks wrote. None if a value does not fit."""
        self.exchanges += 1
        half, data = self.exchanges % 2, _bytes_of(value.contiguous())
        mine = self.regions[self.rank].halves[half]
        fits = self._header + len(data) <= len(mine)
        mine[: self._header].view(torch.int64).copy_(torch.tensor([int(fits), *numbers]))
        if fits:
            mine[self._header :][: len(data)].copy_(data)
        call("publish", self.regions[self.rank].counter, self.exchanges)
        self._wait()
        halves = [region.halves[half] for region in self.regions]
        headers = [each[: self._header].view(torch.int64).tolist() for each in halves]
        if not all(header[0] for header in headers):
            return None
        return [header[1:] for header in headers], [each[self._header :] for each in halves]

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


def _bytes_of(value: Tensor) -> Tensor:
    """The memory of a contiguous tensor, as bytes."""
    return value.view(-1).view(torch.uint8) if value.numel() else value.new_empty(0, dtype=torch.uint8)


def _machine() -> str:
    """A text that is equal for ranks on one machine that see each other's processes, and for no other ranks."""
    started = Path("/proc/sys/kernel/random/boot_id").read_text()  # a random number of the machine's last start
    return f"{started} {Path('/proc/self/ns/pid').readlink()}"


def _free() -> int:
    """Free bytes of the shared memory."""
    room = os.statvfs(_FOLDER)
    return room.f_bavail * room.f_frsize if room.f_blocks else sys.maxsize  # a tmpfs without a limit counts no blocks


def _create(size: int) -> Path:
    """Creates a file of a region's size and reserves all its memory: memory that runs out later is a bus error.

    Raises:
        OSError: there is no room, or no permission.
    """
    if size < _LEAST:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file, name = tempfile.mkstemp(dir=_FOLDER, prefix="advkge-")
    try:
        os.posix_fallocate(file, 0, size)
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(file)
    return Path(name)


def _map(paths: list[str]) -> list[_Region]:
    """The regions that this rank can open. Ranks in other containers have files that it can't see."""
    regions = []
    for path in paths:
        if Path(path).exists():
            with Path(path).open("r+b") as file:
                regions.append(_Region.of(file.fileno()))
    return regions
