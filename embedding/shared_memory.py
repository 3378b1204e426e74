"""Exchanges between ranks of one machine through memory that they share: a copy each way instead of a socket's four.

Each rank has a region that it writes and the others read: a counter of exchanges, then two halves that are used in
turns. A rank that sees all counters at exchange n knows that everybody has read exchange n - 1, so that the half it
writes next is free.
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

from graph.errors import InputError
from kernels.library import call, load

log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")
_LINE = 64
"""Bytes of a cache line, which a counter has to itself."""
_MOST = _LINE + (32 << 20)
"""Bytes of a region where there is room; what is larger than a half goes through the process group, where the wait
counts for little."""
_LEAST = 1 << 20
"""Bytes of a region below which there is no point in having one."""
_SHARE = 3 / 4
"""Of the room that is free, what the regions take together: containers give 64 MiB, and others may want some."""


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


class LostRankError(InputError):
    """Another rank did not come to an exchange: it hangs, or has died."""

    def __init__(self, message: str, *, hangs: bool) -> None:
        super().__init__(message)
        self.hangs = hangs


class SharedMemory:
    """All ranks' regions, as this rank sees them. All ranks make the same exchanges in the same order.

    Args:
        process: the ranks' process numbers.
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
        """Maps the regions of all ranks; None if they are on several machines, or have no room for it. Collective."""
        possible = load() is not None and _FOLDER.is_dir()  # else there is no compiler, which was said, or no Linux
        world_size = dist.get_world_size()
        free: list[int] = [0] * world_size
        dist.all_gather_object(free, _free() if possible else 0)
        here: tuple[str, str, int] | str | None = None
        path = None
        if possible:
            try:
                # As much on all ranks: of what was free before anyone had taken anything.
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
            path.unlink()  # what is mapped stays; a run that dies leaves nothing behind
        if min(mapped) < world_size:
            reasons = [each for each in ranks if isinstance(each, str)]
            if reasons and dist.get_rank() == 0:
                log.warning("ranks can't share memory in %s (%s): they use slower sockets", _FOLDER, reasons[0])
            return None
        return cls(regions, [process for _, _, process in known], dist.get_rank(), seconds)

    def all_to_all(
        self, value: Shaped[Tensor, "S *d"], send: list[int]
    ) -> tuple[Shaped[Tensor, "T *d"], list[int]] | None:
        """Sends consecutive rows to the ranks; what arrived, and how many of each. Collective.

        None, on all ranks, if a rank has more to send than fits.
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
        """The sum of all ranks' values, always made in the order of the ranks. Collective.

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
        """What each rank gave, by rank; they may give different numbers of rows. Collective.

        None, on all ranks, if a rank's does not fit.
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
        """Shows a value, and a number for each rank, to all; returns what they showed. None if one does not fit."""
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
                f"rank {missing - len(self.regions)} did not come to an exchange within {self.seconds:g} seconds "
                "(launch.timeout_seconds): it hangs, or has that much more to do",
                hangs=True,
            )
        if missing >= 0:
            raise LostRankError(f"rank {missing} has died", hangs=False)


def _bytes_of(value: Tensor) -> Tensor:
    """A contiguous tensor's memory."""
    return value.view(-1).view(torch.uint8) if value.numel() else value.new_empty(0, dtype=torch.uint8)


def _machine() -> str:
    """The same for ranks on one machine that see each other's processes, and for no others."""
    started = Path("/proc/sys/kernel/random/boot_id").read_text()  # a random number of the machine's last start
    return f"{started} {Path('/proc/self/ns/pid').readlink()}"


def _free() -> int:
    """Bytes that files may still take."""
    room = os.statvfs(_FOLDER)
    return room.f_bavail * room.f_frsize if room.f_blocks else sys.maxsize  # a tmpfs without a limit counts no blocks


def _create(size: int) -> Path:
    """A file of a region's size, all of it there: room that runs out later would be a bus error.

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
    """The regions that can be opened here: ranks in containers of their own see other files."""
    regions = []
    for path in paths:
        if Path(path).exists():
            with Path(path).open("r+b") as file:
                regions.append(_Region.of(file.fileno()))
    return regions
