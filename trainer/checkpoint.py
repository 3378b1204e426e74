"""Checkpoints: any number of ranks can load what another number of ranks saved, and saving is atomic.

A checkpoint is a folder of safetensors files, which execute no code when loaded. `rows_K_of_W.safetensors` has the
entity rows of rank K, the entity of each row, and this rank's part of a sampler's keyed rows. `dense.safetensors` has
the tensors that are equal on all ranks. Both have the averages of weights beside the weights. `manifest.json` has the
position in the run and the SHA-256 of each file and of itself. A rank finds the rows of its entities in any of the
files, so ranks and placement may differ from those that saved.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from graph.errors import InputError
from trainer.checkpoint_files import (
    digest_of,
    digest_of_file,
    is_file,
    sync_folder,
    verify,
    write_tensors,
    write_text,
)
from trainer.keyed_shards import keyed_tensors
from trainer.manifest import FORMAT, load_manifest
from trainer.origin import Renumbering
from trainer.player import Player, dense_tensors, load_players, row_tensors
from trainer.pointer import pointed_checkpoint, read_pointer, write_pointer
from trainer.runtime import Runtime


class Checkpointer:
    """Saves checkpoints to `folder` and loads them; pointers give names such as "latest" to checkpoints.

    Example: `path = checkpointer.save("step_000000100", players, state, manifest)`, then
    `checkpointer.point("latest", path)`. To load: `checkpointer.read_manifest(path)`, then
    `state = checkpointer.load(path, players)`, which fills the players' models.

    Args:
        keep: how many of the newest checkpoints to keep, besides those that a pointer names.

    Raises:
        InputError: `keep` is below 1.
    """

    def __init__(self, folder: Path, runtime: Runtime, *, keep: int) -> None:
        if keep < 1:
            raise InputError(f"trainer.keep_checkpoints must be at least 1, got {keep}")
        self.folder = folder
        self.runtime = runtime
        self.keep = keep

    def save(
        self,
        name: str,
        players: Mapping[str, Player],
        state: Mapping[str, Tensor],
        manifest: Mapping[str, Any],
        keyed: Mapping[str, KeyedRows] = MappingProxyType({}),
    ) -> Path:
        """Writes a checkpoint and returns its folder. Collective.

        Args:
            name: the name of the folder; names must sort in the order of saving.
            state: small tensors, equal on all ranks.
            manifest: JSON values: the position in the run and the options that a resumed run must share.
            keyed: rows of a sampler that are partitioned over the ranks.

        Raises:
            InputError: a file cannot be written. Earlier checkpoints stay unchanged.
        """
        final = self.folder / name
        temporary = self.folder / f"{name}.tmp"
        rows = temporary / f"rows_{self.runtime.rank}_of_{self.runtime.world_size}.safetensors"
        dense = dense_tensors(players) | {f"state/{name}": value for name, value in state.items()}
        try:
            self._attempt(lambda: self._prepare(temporary), first_only=True)
            self._attempt(lambda: write_tensors(rows, row_tensors(players) | keyed_tensors(keyed)))
            self._attempt(lambda: write_tensors(temporary / "dense.safetensors", dense), first_only=True)
            self._attempt(lambda: self._publish(temporary, final, manifest), first_only=True)
        except InputError:
            # The incomplete checkpoint is of no use and would fill the disk.
            if self.runtime.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def point(self, name: str, checkpoint: Path) -> None:
        """Points a name ("latest", "best_adversarial") to a checkpoint, then removes old ones. Collective."""

        def write() -> None:
            write_pointer(self.folder / f"{name}.json", checkpoint.name)
            self._remove_old()

        self._attempt(write, first_only=True)

    def drop(self, name: str) -> None:
        """Removes a pointer, so that its checkpoint can be removed later. Collective."""
        self._attempt(lambda: (self.folder / f"{name}.json").unlink(missing_ok=True), first_only=True)

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

        self._attempt(copy, first_only=True)
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
            # Each rank checks some of the files; if one rank finds damage, all ranks raise the error.
            for name, digest in files[self.runtime.rank :: self.runtime.world_size]:
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
        return state

    def _attempt(self, action: Any, *, first_only: bool = False) -> None:
        """Runs an action that writes files, on all ranks or rank 0. If one rank fails, all raise the error."""
        error = None
        if self.runtime.is_first or not first_only:
            try:
                action()
            except OSError as failure:
                error = self._explain(failure.strerror or str(failure))
            except SafetensorError as failure:
                error = self._explain(str(failure))
            except InputError as failure:
                error = str(failure)
        self.runtime.agree(error)

    def _explain(self, reason: str) -> str:
        pointer = self.folder / "latest.json"
        try:
            last = read_pointer(pointer) if pointer.exists() else "none yet"
        except InputError as error:
            last = f"not known ({error})"
        return f"could not save a checkpoint in {self.folder}: {reason}; the last good one is {last}"

    def _prepare(self, temporary: Path) -> None:
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)

    def _publish(self, temporary: Path, final: Path, manifest: Mapping[str, Any]) -> None:
        files = {path.name: digest_of_file(path) for path in sorted(temporary.glob("*.safetensors"))}
        content = {"format": FORMAT, "files": files, **manifest}
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


def trained_checkpoint(folder: Path, key: str = "run") -> Path:
    """The checkpoint that a run's result is of: the best of its last stage, or the latest if that had no validation.

    Args:
        folder: the run folder.
        key: the option that gave it, for errors.

    Raises:
        InputError: there is no checkpoint.
    """
    stage = load_manifest(find_checkpoint(folder, "latest", key), "stages")["stages"][-1]
    has_best = is_file(folder / "checkpoints" / f"best_{stage}.json")
    return find_checkpoint(folder, f"best_{stage}" if has_best else "latest", key)


def find_checkpoint(path: Path, pointer: str, key: str) -> Path:
    """The checkpoint at a user's path: the path itself, or in a run folder the checkpoint that `pointer` names.

    Args:
        key: the option that gave the path, for errors.

    Raises:
        InputError: there is no checkpoint.
    """
    if is_file(path / "manifest.json"):
        return path
    for folder in (path / "checkpoints", path):
        target = folder / f"{pointer}.json"
        if is_file(target):
            return pointed_checkpoint(target)
    raise InputError(
        f"{key}: no checkpoint at {path}: expected a checkpoint folder with manifest.json, or a run folder with "
        f"checkpoints/{pointer}.json"
    )
