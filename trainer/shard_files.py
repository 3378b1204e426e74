"""The entity rows of a table on disk in a checkpoint: one file for each shard, and only changed shards are written.

The file of a shard that is as it was in the last checkpoint is a hard link to that one's file. Rows are read from the
table and written a block at a time, so a checkpoint takes no copy of the table.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from embedding.storage import DiskStorage
from trainer.tensor_file import TensorFile


@dataclass(frozen=True)
class _Written:
    path: Path
    digest: str
    names: frozenset[str]
    """Of its tensors: a stage has other models and optimisers than the one before."""


class ShardFiles:
    """Splits this rank's rows into files, and remembers which file of the last checkpoint has which shard."""

    def __init__(self) -> None:
        self._written: dict[str, _Written] = {}
        self._shard: dict[str, int] = {}
        self._storage: DiskStorage | None = None

    def split(
        self, rows: Mapping[str, Tensor], storage: DiskStorage, rank: int, world_size: int
    ) -> dict[str, dict[str, Tensor]]:
        """This rank's rows by file. Shards that have changed since the last call will be written.

        The files are numbered as if each shard of each rank were a rank: whoever loads them need not know of shards.
        """
        count = len(storage.shards)
        files = {f"rows_{rank * count + n}_of_{world_size * count}.safetensors": n for n in range(count)}
        self._storage, self._shard = storage, files
        changed = storage.take_changed()
        for file, shard in files.items():
            if shard in changed:
                self._written.pop(file, None)
        return {
            file: {name: value[slice(*storage.shards[shard])] for name, value in rows.items()}
            for file, shard in files.items()
        }

    def file_of(self, path: Path, tensors: Mapping[str, Tensor], final: Path) -> "TensorFile | ShardFile":
        """The file to write at `path`, which will be `final`: one of a shard, or another of the checkpoint."""
        if self._storage is None or path.name not in self._shard:
            return TensorFile(path, tensors)
        return ShardFile(self, path, tensors, final)

    def written(self, name: str, names: frozenset[str]) -> _Written | None:
        """The file of the last checkpoint with the same rows as this one, if there is one."""
        found = self._written.get(name)
        return found if found is not None and found.names == names else None

    def note(self, path: Path, digest: str, names: frozenset[str]) -> None:
        """Remembers a file that was written, and drops its shard from memory."""
        self._written[path.name] = _Written(path, digest, names)
        if self._storage is not None:
            self._storage.drop(self._shard[path.name])


class ShardFile:
    """A file of one shard, to be written or linked; see `TensorFile`."""

    def __init__(self, files: ShardFiles, path: Path, tensors: Mapping[str, Tensor], final: Path) -> None:
        self.path = path
        self._files, self._tensors, self._final = files, tensors, final

    def write(self) -> str:
        """Links or writes the file; returns its SHA-256.

        Raises:
            OSError: it can't be written.
        """
        names = frozenset(self._tensors)
        same = self._files.written(self.path.name, names)
        if same is not None and _is_linked(same.path, self.path):
            digest = same.digest
        else:
            digest = TensorFile(self.path, self._tensors).write()
        self._files.note(self._final, digest, names)
        return digest


def _is_linked(path: Path, other: Path) -> bool:
    """Links a file to another name. False: it is gone, as an old one or by hand, or the disk has no links, as FAT."""
    try:
        os.link(path, other)
    except OSError:
        return False
    return True
