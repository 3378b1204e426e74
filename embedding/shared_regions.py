"""The memory that the ranks of one machine share: each rank makes a region, and all of them map it."""

import errno
import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from kernels.library import load

log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")
_LINE = 64
"""Bytes of a cache line; the counter takes one of its own."""
_MOST = _LINE + (128 << 20)
"""Most bytes of a region. A message larger than a half of it goes through the process group instead."""
_LEAST = 1 << 20
"""Fewest bytes of a region; with less room, sockets are used."""
_SHARE = 3 / 4
"""Share of the free room that all regions together may take. Containers often have 64 MiB in all."""


@dataclass(frozen=True)
class Region:
    """Memory that one rank writes and all ranks read: a counter, then two halves."""

    memory: mmap.mmap
    counter: Tensor
    """One int64."""
    half: int
    """Bytes of a half."""

    @classmethod
    def of(cls, file: int) -> "Region":
        """Maps an open file, as large as the region."""
        memory = mmap.mmap(file, 0)
        half = (len(memory) - _LINE) // (2 * _LINE) * _LINE
        return cls(memory, torch.frombuffer(memory, dtype=torch.int64, count=1), half)

    def begin(self, number: int) -> int:
        """The first byte of half 0 or 1."""
        return _LINE + number * self.half

    def numbers(self, place: int, shape: Sequence[int], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
        """The numbers that begin at a byte, as a tensor in this memory."""
        count = prod(shape)
        if not count:
            return torch.empty(tuple(shape), dtype=dtype)
        return torch.frombuffer(self.memory, dtype=dtype, count=count, offset=place).view(tuple(shape))


class _Own(NamedTuple):
    """What a rank tells the others about its region."""

    machine: str
    path: str
    process: int


def open_regions() -> tuple[list[Region], list[int]] | None:
    """Makes this rank's region and maps those of all ranks. Collective.

    Returns:
        The region and the process id of each rank. None, on all ranks, if they are on several machines, or if there is
        no room.
    """
    possible = load() is not None and _FOLDER.is_dir()  # no compiler (logged elsewhere), or not Linux
    world_size = dist.get_world_size()
    free: list[int] = [0] * world_size
    dist.all_gather_object(free, _free() if possible else 0)
    own: _Own | str | None = None
    path = None
    if possible:
        try:
            # The same size on all ranks, from the room that was free before any rank took some.
            path = _create(min(_MOST, int(min(free) * _SHARE) // world_size))
            own = _Own(_machine(), str(path), os.getpid())
        except OSError as error:
            own = error.strerror
    ranks: list[_Own | str | None] = [None] * world_size
    dist.all_gather_object(ranks, own)
    known = [each for each in ranks if isinstance(each, _Own)]
    regions = _map([each.path for each in known]) if len({each.machine for each in known}) == 1 else []
    mapped: list[int] = [0] * world_size
    dist.all_gather_object(mapped, len(regions))
    if path is not None:
        path.unlink()  # the mapping stays valid, and no file is left if the run dies
    if min(mapped) < world_size:
        reasons = [each for each in ranks if isinstance(each, str)]
        if reasons and dist.get_rank() == 0:
            log.warning("ranks can't share memory in %s (%s): they use slower sockets", _FOLDER, reasons[0])
        return None
    return regions, [each.process for each in known]


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


def _map(paths: list[str]) -> list[Region]:
    """The regions that this rank can open. Ranks in other containers have files that it can't see."""
    regions = []
    for path in paths:
        if Path(path).exists():
            with Path(path).open("r+b") as file:
                regions.append(Region.of(file.fileno()))
    return regions
