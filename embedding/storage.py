"""Entity rows in files that are mapped into memory, so that a table may be larger than memory.

The rows are tensors like any others: look-ups, kernels and updates do not know that they lie in a file. The shards of a
state are held in memory of their own at the same addresses, as `DiskStorage.enter` says: shards that leave are written,
and those that come next are read ahead, both by one thread. So memory holds the shards of a state, one that comes and
one that goes. A row that is used without its shard is read when it is touched, and is right too; it only takes longer.

The files have no names: they are gone, and their room is free, when the process ends, however it ends.
"""

import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.mapped_file import MappedFile
from graph.errors import InputError
from graph.partition import EntityPlacement
from graph.shards import Resident, row_bounds

_SPAN_BYTES = 1 << 26
"""Bytes of rows that are passed before they are dropped."""


class DiskStorage:
    """The rows of all tables of a run, on this rank, and which of their shards are in memory.

    Args:
        placement: has a plan with a folder.

    Raises:
        InputError: the folder can't be made, or the system is not Linux.
    """

    def __init__(self, placement: EntityPlacement, rank: int, world_size: int) -> None:
        assert placement.disk is not None
        if placement.disk.folder is None:
            raise InputError("placement.folder must name a folder for the table, got null")
        if sys.platform != "linux":
            raise InputError(f"placement.storage=disk needs Linux, this is {sys.platform}")
        self.folder = Path(placement.disk.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"placement.folder: {self.folder} can't be made: {error.strerror}") from error
        start, stop = placement.block(rank, world_size)
        bounds = (row_bounds(len(placement.row_of_entity), placement.disk.shards).clamp(start, stop) - start).tolist()
        self.shards = list(pairwise(bounds))
        """(first, stop) of this rank's rows of each shard."""
        self.bytes_read = 0
        """Bytes of shards that came into memory, and of those that left it, on this rank."""
        self.bytes_written = 0
        self._files: dict[int, weakref.ref[MappedFile]] = {}
        self._state: Resident | None = None
        self._held: set[int] = set()
        self._changed = set(range(len(self.shards)))
        self._has_states = placement.disk.has_states
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._work: list[Future[None]] = []

    def rows(self, count: int, width: int, dtype: torch.dtype) -> Float[Tensor, "L W"]:
        """Rows of zeros in a file.

        Raises:
            InputError: the disk has no room for them.
        """
        size = count * width * dtype.itemsize
        if not size:
            return torch.zeros((count, width), dtype=dtype)
        try:
            file = MappedFile.make(self.folder, size, width * dtype.itemsize)
        except OSError as error:
            raise InputError(
                f"placement.folder: {self.folder} can't take {size / 1e9:.3g} GB of rows: {error.strerror}"
            ) from error
        rows = torch.frombuffer(file, dtype=dtype).view(count, width)
        file.address = rows.data_ptr()
        self.has_changed()
        self._files[file.address] = weakref.ref(file)
        try:
            for shard in self._held:  # of the stage before this one, which may go on with the same state
                file.hold(*self.shards[shard])
        except OSError as error:
            raise self._explained(error) from error
        return rows

    def spans(self, rows: Float[Tensor, "L W"], multiple: int = 1) -> Iterator[slice]:
        """All rows, a multiple of this number at a time; those before are dropped from memory."""
        file = self._file(rows)
        size = max(1, _SPAN_BYTES // max(1, rows[:1].nbytes) // multiple) * multiple
        for first in range(0, len(rows), size):
            stop = min(first + size, len(rows))
            yield slice(first, stop)
            if file is not None:
                self._attempt(file, first, stop)

    def enter(self, state: Resident) -> None:
        """Tells which shards the next steps use. Does nothing if they are in memory already.

        Until `wait`, only rows of `state.shards` may be changed: those that follow are being read.

        Raises:
            InputError: a shard could not be written or read.
        """
        if self._state is not None and (self._state.shards, self._state.following) == (state.shards, state.following):
            return
        self.wait()
        self._state = state
        self._changed |= {*state.shards}
        needed, coming = {*state.shards} - self._held, {*state.following} - {*state.shards} - self._held
        leaving = self._held - {*state.shards, *state.following}  # one that comes back at once stays
        self._held = {*state.shards, *state.following}
        try:
            for shard in sorted(needed):
                self._read(shard)
        except OSError as error:
            raise self._explained(error) from error
        self._work = [
            *(self._thread.submit(self._read, shard) for shard in sorted(coming)),
            *(self._thread.submit(self._write, shard) for shard in sorted(leaving)),
        ]

    def has_changed(self) -> None:
        """Call before rows of any shard are changed. Waits until no shard is being read."""
        self.wait()
        self._changed = set(range(len(self.shards)))

    def take_changed(self) -> set[int]:
        """The shards that may have changed since the last call. Unasked, steps change rows of their state, or any if
        all shards are in memory, where there are no states.
        """
        changed = self._changed
        if self._has_states:
            self._changed = set() if self._state is None else {*self._state.shards}
        return changed

    def drop(self, shard: int) -> None:
        """Takes a shard out of memory, unless steps use it. Raises OSError if it can't be written."""
        if shard not in self._held:
            for file in self._opened():
                file.drop(*self.shards[shard])

    def release(self, rows: Float[Tensor, "L W"]) -> None:
        """Takes all rows of a table out of memory."""
        file = self._file(rows)
        if file is not None:
            self._attempt(file, 0, len(rows))

    def wait(self) -> None:
        """Waits for the thread. Raises InputError if it could not write or read."""
        work, self._work = self._work, []
        try:
            for each in work:
                each.result()
        except OSError as error:
            raise self._explained(error) from error

    def _read(self, shard: int) -> None:
        self.bytes_read += sum(file.hold(*self.shards[shard]) for file in self._opened())

    def _write(self, shard: int) -> None:
        self.bytes_written += sum(file.let_go(*self.shards[shard]) for file in self._opened())

    def _attempt(self, file: MappedFile, first: int, stop: int) -> None:
        try:
            file.drop(first, stop)
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> InputError:
        return InputError(f"placement.folder: a shard in {self.folder} can't be written or read: {error.strerror}")

    def _file(self, rows: Tensor) -> MappedFile | None:
        found = self._files.get(rows.data_ptr())
        return None if found is None else found()

    def _opened(self) -> list[MappedFile]:
        """The files that are in use: those of an optimiser that was replaced are gone."""
        return [file for file in (each() for each in list(self._files.values())) if file is not None]


def spans(storage: DiskStorage | None, rows: Float[Tensor, "L W"], multiple: int = 1) -> Iterator[slice]:
    """All rows of a table: of one in memory at once, of one on disk some at a time, see `DiskStorage.spans`."""
    return iter([slice(0, len(rows))]) if storage is None else storage.spans(rows, multiple)
