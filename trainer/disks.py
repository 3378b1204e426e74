"""Which ranks see the same run folder, and files for those that do not: machines may have disks of their own.

If the run folder is not shared, every machine keeps all of it: each checkpoint is brought to every disk. So any machine
may be lost, and reading is the same as from a shared folder.
"""

import errno
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from trainer.checkpoint_files import sync_folder
from trainer.runtime import Runtime

_BLOCK_BYTES = 8 << 20
"""What a rank holds of a file that it sends or gets."""
_ANY_TIME = timedelta(days=1000)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Parcel:
    """A file that is brought to other disks."""

    source: Path
    """Where it lies on the disk that has it."""
    rank: int
    """A rank of that disk."""
    target: Path
    """Where the other disks get it; a file that is there is replaced when the new one is whole."""


class Disks:
    """The ranks of a run, grouped by the disk that their run folder is on.

    Args:
        owner: for each rank, the first rank of its disk, which alone writes what a disk has once.
    """

    def __init__(self, runtime: Runtime, owner: Sequence[int]) -> None:
        self.runtime = runtime
        self.owner = list(owner)
        self.owners = sorted(set(owner))
        # A rank that dies is still noticed, because its connections close.
        self._group: dist.ProcessGroup | None = None
        if self.are_several:
            made = dist.new_group(self.owners, timeout=_ANY_TIME, backend="gloo")
            self._group = cast(dist.ProcessGroup, made) if self.is_owner else None

    @classmethod
    def one(cls, runtime: Runtime) -> "Disks":
        """All ranks see the same folder."""
        return cls(runtime, [0] * runtime.world_size)

    @classmethod
    def of(cls, folder: Path, runtime: Runtime) -> "Disks":
        """Finds out who sees whose files in a run folder, by a file from each rank. Collective.

        Raises:
            InputError: a rank can't write into the folder.
        """
        mine, error = folder / f".seen_by_{runtime.rank}_{uuid.uuid4().hex}", None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mine.touch()
        except OSError as failure:
            error = f"hydra.run.dir: rank {runtime.rank} can't write into {folder}: {failure.strerror}"
        runtime.agree(error)
        # Names that nobody looked for before: a network disk remembers for a while that a file was not there.
        names = runtime.gather(mine.name)
        seen = [rank for rank, name in enumerate(names) if (folder / name).exists()]
        owner = runtime.gather(min(seen, default=runtime.rank))  # after this, all have looked
        mine.unlink(missing_ok=True)
        return cls(runtime, owner)

    @property
    def are_several(self) -> bool:
        """Whether some ranks do not see the run folder of others."""
        return len(self.owners) > 1

    @property
    def is_owner(self) -> bool:
        """Whether this rank writes what its disk has once."""
        return self.owner[self.runtime.rank] == self.runtime.rank

    @property
    def neighbours(self) -> list[int]:
        """The ranks of this disk."""
        return [rank for rank, owner in enumerate(self.owner) if owner == self.owner[self.runtime.rank]]

    def of_first(self, value: _Result) -> _Result:
        """The value of rank 0, if ranks are to write it to several disks, so that it is the same on all. Collective."""
        return self.runtime.gather(value)[0] if self.are_several else value

    def bring(self, parcels: Iterable[Parcel], *, wanted: bool = True) -> None:
        """Brings files to all disks that do not have them, a block at a time. Collective, with the same parcels.

        Args:
            wanted: whether this rank's disk takes files of others; if not, it only helps to hand them on.
        Raises:
            InputError: a file can't be read or written.
        """
        if not self.are_several:
            return
        error = None
        if self.is_owner:
            for parcel in parcels:
                failed = self._bring(parcel, wanted=wanted)
                error = error or failed
        self.runtime.agree(error, patient=True)

    def _bring(self, parcel: Parcel, *, wanted: bool) -> str | None:
        """Sends or gets a file; returns an error. It takes part until the end even so: the others wait for it."""
        root = self.owner[parcel.rank]
        end = _Source(parcel.source) if root == self.runtime.rank else _Target(parcel.target, wanted=wanted)
        with ExitStack() as opened:
            size = torch.tensor([end.attempt(lambda: end.open(opened)) or 0])
            dist.broadcast(size, root, group=self._group)
            for first in range(0, int(size), _BLOCK_BYTES):
                block = torch.zeros(min(_BLOCK_BYTES, int(size) - first), dtype=torch.uint8)
                memory = block.numpy().data
                end.attempt(lambda memory=memory: end.before(memory))
                dist.broadcast(block, root, group=self._group)
                end.attempt(lambda memory=memory: end.after(memory))
            end.attempt(end.finish)
        return end.error


class _End:
    """One end of the way of a file. After an error it does nothing, but goes on to take part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None

    def attempt(self, action: Callable[[], _Result]) -> _Result | None:
        if self.error is None:
            try:
                return action()
            except OSError as failure:
                self.error = f"{self.path} can't be brought to machines that do not see it: {failure.strerror}"
        return None

    def open(self, opened: ExitStack) -> int:
        """Opens the file and returns its size, as far as it is known."""
        raise NotImplementedError

    def before(self, memory: memoryview) -> None:
        """Called before a block travels."""

    def after(self, memory: memoryview) -> None:
        """Called after a block has travelled."""

    def finish(self) -> None:
        """Called after the last block."""


class _Source(_End):
    def open(self, opened: ExitStack) -> int:
        self._file = opened.enter_context(self.path.open("rb"))
        return os.fstat(self._file.fileno()).st_size

    def before(self, memory: memoryview) -> None:
        if self._file.readinto(memory) < len(memory):
            raise OSError(errno.EIO, "it became shorter while it was read")


class _Target(_End):
    def __init__(self, path: Path, *, wanted: bool) -> None:
        super().__init__(path)
        self._wanted = wanted
        self._partial = path.with_name(f"{path.name}.partial")

    def open(self, opened: ExitStack) -> int:
        if self._wanted:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = opened.enter_context(self._partial.open("wb"))
        return 0

    def after(self, memory: memoryview) -> None:
        if self._wanted:
            self._file.write(memory)

    def finish(self) -> None:
        if self._wanted:
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._partial, self.path)
            sync_folder(self.path.parent)
