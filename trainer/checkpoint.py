"""Checkpoints: any number of ranks can load what another number of ranks saved, and saving is atomic.

A checkpoint is a folder of safetensors files, which execute no code when loaded. `rows_K_of_W.safetensors` has the
entity rows of rank K, the entity of each row, and this rank's part of a sampler's keyed rows; a table on disk has one
such file for each shard. `dense.safetensors` has the tensors that are equal on all ranks. Both have the averages of
weights beside the weights. `manifest.json` has the position in the run and the SHA-256 of each file and of itself. A
rank finds the rows of its entities in any of the files, so ranks and placement may differ from those that saved. If
the disks of machines are not shared, each disk has the whole checkpoint (trainer/disks.py).
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from graph.errors import InputError
from trainer.checkpoint_files import digest_of, sync_folder, verify, write_text
from trainer.disks import Disks, Parcel
from trainer.keyed_shards import keyed_tensors
from trainer.manifest import FORMAT, load_manifest
from trainer.origin import Renumbering
from trainer.player import Player, dense_tensors, load_players, row_tensors
from trainer.pointer import read_pointer, write_pointer
from trainer.runtime import Runtime
from trainer.shard_files import ShardFiles
from trainer.tensor_file import TensorFile
from trainer.writing import Writing


@dataclass(frozen=True)
class Unpublished:
    """A checkpoint whose files are being written, by each rank its own; see `Checkpointer.begin`."""

    name: str
    manifest: Mapping[str, Any]
    writing: Writing


class Checkpointer:
    """Saves checkpoints to `folder` and loads them; pointers give names such as "latest" to checkpoints.

    Example: `path = checkpointer.save("step_000000100", players, state, manifest)`, then
    `checkpointer.point("latest", path)`. To load: `checkpointer.read_manifest(path)`, then
    `state = checkpointer.load(path, players)`, which fills the players' models.

    Args:
        keep: how many of the newest checkpoints to keep, besides those that a pointer names.
        disks: which ranks see the same `folder`; None: all do.

    Raises:
        InputError: `keep` is below 1.
    """

    def __init__(self, folder: Path, runtime: Runtime, *, keep: int, disks: Disks | None = None) -> None:
        if keep < 1:
            raise InputError(f"trainer.keep_checkpoints must be at least 1, got {keep}")
        self.folder = folder
        self.runtime = runtime
        self.keep = keep
        self.disks = disks or Disks.one(runtime)
        self._shard_files = ShardFiles()

    def save(
        self,
        name: str,
        players: Mapping[str, Player],
        state: Mapping[str, Tensor],
        manifest: Mapping[str, Any],
        keyed: Mapping[str, KeyedRows] = MappingProxyType({}),
    ) -> Path:
        """Writes a checkpoint and returns its folder: `begin` and `publish`. Collective."""
        return self.publish(self.begin(name, self.tensors(players, state, keyed), manifest))

    def tensors(
        self,
        players: Mapping[str, Player],
        state: Mapping[str, Tensor],
        keyed: Mapping[str, KeyedRows] = MappingProxyType({}),
    ) -> dict[str, dict[str, Tensor]]:
        """The tensors that this rank writes, by file. They are the run's own, not copies.

        Args:
            state: small tensors, equal on all ranks.
            keyed: rows of a sampler that are partitioned over the ranks.
        """
        rank, world_size, rows = self.runtime.rank, self.runtime.world_size, row_tensors(players)
        storage = next((each.model.site.storage for each in players.values()), None)
        if storage is not None and not keyed:
            files = self._shard_files.split(rows, storage, rank, world_size)
        else:
            files = {f"rows_{rank}_of_{world_size}.safetensors": rows | keyed_tensors(keyed)}
        if self.runtime.is_first:
            named = {f"state/{name}": value for name, value in state.items()}
            files["dense.safetensors"] = dense_tensors(players) | named
        return files

    def begin(
        self,
        name: str,
        files: Mapping[str, Mapping[str, Tensor]],
        manifest: Mapping[str, Any],
        *,
        background: bool = False,
    ) -> Unpublished:
        """Writes the files of a checkpoint, which is none until `publish`. Collective.

        Args:
            name: the name of the folder; names must sort in the order of saving.
            files: from `tensors`.
            manifest: JSON values: the position in the run and the options that a resumed run must share.
            background: return when the system has all bytes, and let a thread wait for the disk. Until `publish`
                nothing else may be saved. Not for a table on disk.

        Raises:
            InputError: the folder cannot be made. Earlier checkpoints stay unchanged.
        """
        temporary = self._temporary(name)
        self._attempt(lambda: self._prepare(temporary), once=True)
        plain = {file: {key: value.detach() for key, value in tensors.items()} for file, tensors in files.items()}
        if background:
            writing = Writing.later([TensorFile(temporary / file, tensors) for file, tensors in plain.items()])
        else:
            final = self.folder / name
            writing = Writing.at_once(
                [self._shard_files.file_of(temporary / file, tensors, final / file) for file, tensors in plain.items()]
            )
        return Unpublished(name, manifest, writing)

    def publish(self, unpublished: Unpublished) -> Path:
        """Waits until all ranks have written their files, makes them a checkpoint and returns its folder. Collective.

        Raises:
            InputError: a file cannot be written. Earlier checkpoints stay unchanged.
        """
        temporary, final = self._temporary(unpublished.name), self.folder / unpublished.name
        own: dict[str, str] = {}

        def wait() -> None:
            own.update(unpublished.writing.wait())

        try:
            self._attempt(wait)
            of_ranks = self.runtime.gather(own)
            files = {file: digest for of_rank in of_ranks for file, digest in of_rank.items()}
            paths = [(temporary / file, rank) for rank, of_rank in enumerate(of_ranks) for file in of_rank]
            self.disks.bring(Parcel(path, rank, path) for path, rank in paths)
            manifest = self.disks.of_first(unpublished.manifest)
            content = {"format": FORMAT, "files": dict(sorted(files.items())), **manifest}
            self._attempt(lambda: self._publish(temporary, final, content), once=True)
        except InputError:
            # The incomplete checkpoint is of no use and would fill the disk.
            if self.disks.is_owner:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def point(self, name: str, checkpoint: Path) -> None:
        """Points a name ("latest", "best_adversarial") to a checkpoint, then removes old ones. Collective."""

        def write() -> None:
            write_pointer(self.folder / f"{name}.json", checkpoint.name)
            self._remove_old()

        self._attempt(write, once=True)

    def drop(self, name: str) -> None:
        """Removes a pointer, so that its checkpoint can be removed later. Collective."""
        self._attempt(lambda: (self.folder / f"{name}.json").unlink(missing_ok=True), once=True)

    def adopt(self, checkpoint: Path) -> Path:
        """Copies a checkpoint of another run to `folder`, unless it is there already. Returns its path. Collective.

        Raises:
            InputError: the checkpoint is missing or damaged.
        """
        own = self.folder / checkpoint.name
        if not own.exists() and not checkpoint.exists():
            raise InputError(f"resume: {checkpoint}, the best of its stage, is gone; resume from a later checkpoint")

        def copy() -> None:
            if not own.exists():
                temporary = self.folder / f"{checkpoint.name}.tmp"
                self._prepare(temporary)
                shutil.copytree(checkpoint, temporary, dirs_exist_ok=True, symlinks=True)
                temporary.rename(own)

        self._attempt(copy, once=True)
        self.read_manifest(own)
        return own

    def read_manifest(self, checkpoint: Path, *needed: str) -> dict[str, Any]:
        """Returns the manifest after checking the SHA-256 of every file. Collective.

        Args:
            needed: fields that the manifest must have.

        Raises:
            InputError: a file is missing or damaged, or a field is missing or wrong.
        """
        manifest = load_manifest(checkpoint, *needed)
        files = list(manifest["files"].items())
        error = None
        try:
            # Each rank of a disk checks some of its files; if one rank finds damage, all ranks raise the error.
            ranks = self.disks.neighbours
            for name, digest in files[ranks.index(self.runtime.rank) :: len(ranks)]:
                verify(checkpoint / name, digest)
        except InputError as failure:
            error = str(failure)
        self.runtime.agree(error)
        return manifest

    def load(
        self, checkpoint: Path, players: Mapping[str, Player], keyed: Mapping[str, KeyedRows] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        """Loads all that a run needs to go on: the players' models, optimisers and averages, and keyed rows, in place.

        Call `read_manifest` first, which checks the files. Returns the state tensors. Collective.

        Raises:
            InputError: a tensor has another shape or type than this run's, an entity has no row or two, or a number is
                nan or infinite.
        """
        return self._load(checkpoint, players, keyed, averaged=False)

    def load_trained(self, checkpoint: Path, models: Mapping[str, KGEModel]) -> None:
        """Loads models as they are used after training: with the average of their weights, if the checkpoint has one.

        As `load` otherwise. Collective.
        """
        players = {name: Player(model, None) for name, model in models.items()}
        self._load(checkpoint, players, {}, averaged=True)

    def load_grown(self, checkpoint: Path, players: Mapping[str, Player], renumbering: Renumbering) -> None:
        """Loads models and optimisers of a run on a smaller graph; rows that it does not have stay as they are.

        A model gets the average of its weights, if the checkpoint has one. As `load` otherwise. Collective.
        """
        self._load(checkpoint, players, {}, averaged=True, renumbering=renumbering)

    def _load(
        self,
        checkpoint: Path,
        players: Mapping[str, Player],
        keyed: Mapping[str, KeyedRows],
        *,
        averaged: bool,
        renumbering: Renumbering | None = None,
    ) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        error = None
        try:
            state = load_players(checkpoint, players, keyed, averaged=averaged, renumbering=renumbering)
        except InputError as failure:  # of this rank's rows; all ranks raise it
            error = str(failure)
        self.runtime.agree(error)
        for player in players.values():
            player.model.encode()
        return state

    def _attempt(self, action: Callable[[], None], *, once: bool = False) -> None:
        """Runs an action on files, on all ranks or once on each disk. If one rank fails, all raise the error."""
        error = None
        if self.disks.is_owner or not once:
            try:
                action()
            except OSError as failure:
                error = self._explain(failure.strerror or str(failure))
            except InputError as failure:
                error = str(failure)
        self.runtime.agree(error)

    def _explain(self, reason: str) -> str:
        pointer = self.folder / "latest.json"
        try:
            last = f"the last good one is {read_pointer(pointer)}" if pointer.exists() else "there is none before it"
        except InputError as error:
            last = f"the last good one is not known ({error})"
        return f"could not save a checkpoint in {self.folder}: {reason}; {last}"

    def _prepare(self, temporary: Path) -> None:
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)

    def _temporary(self, name: str) -> Path:
        return self.folder / f"{name}.tmp"

    def _publish(self, temporary: Path, final: Path, content: Mapping[str, Any]) -> None:
        write_text(temporary / "manifest.json", json.dumps({"digest": digest_of(content), **content}, indent=1))
        void = self.folder / f"{final.name}.void.tmp"
        if final.exists():  # the same step again, after going back to an earlier checkpoint
            final.rename(void)
        temporary.rename(final)
        sync_folder(self.folder)
        shutil.rmtree(void, ignore_errors=True)

    def _remove_old(self) -> None:
        pointed = {read_pointer(path) for path in self.folder.glob("*.json")}
        for checkpoint in sorted(path.parent for path in self.folder.glob("*/manifest.json"))[: -self.keep]:
            if checkpoint.name not in pointed:
                shutil.rmtree(checkpoint)
