"""Checkpoints: any number of ranks can load what another number of ranks saved, and saving is atomic.

A checkpoint is a folder of safetensors files, which execute no code when loaded. `rows_K_of_W.safetensors` has the
entity rows of rank K, the entity of each row, and this rank's part of a sampler's keyed rows. `dense.safetensors` has
the tensors that are equal on all ranks. `manifest.json` has the position in the run and the SHA-256 of each file and of
itself. A rank finds the rows of its entities in any of the files, so ranks and placement may differ from those that
saved.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.optimizer import ModelOptimizer
from graph.errors import InputError
from trainer.checkpoint_files import (
    digest_of,
    digest_of_file,
    is_file,
    open_tensors,
    shown,
    sync_folder,
    verify,
    write_tensors,
    write_text,
)
from trainer.keyed_shards import keyed_tensors, load_keyed
from trainer.manifest import FORMAT, load_manifest
from trainer.pointer import pointed_checkpoint, read_pointer, write_pointer
from trainer.row_check import check_entities, check_finite
from trainer.runtime import Runtime


@dataclass
class Player:
    """A model to save or load, and its optimiser; None if no optimiser updates it now."""

    model: KGEModel
    optimizer: ModelOptimizer | None


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
        dense = _dense_tensors(players) | {f"state/{name}": value for name, value in state.items()}
        try:
            self._attempt(lambda: self._prepare(temporary), first_only=True)
            self._attempt(lambda: write_tensors(rows, _row_tensors(players) | keyed_tensors(keyed)))
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
        """Loads the players' models, their optimisers and keyed rows in place; returns the state tensors. Collective.

        Call `read_manifest` first, which checks the files.

        Raises:
            InputError: a tensor has another shape or type than this run's, an entity has no row or two, or a number is
                nan or infinite.
        """
        state: dict[str, Tensor] = {}
        error = None
        try:
            state = _load(checkpoint, players, keyed)
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


def _row_tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, player in players.items():
        # All tables use the run's placement, so they have the same entities on this rank.
        tensors["entity"] = player.model.entity.entity
        tensors[f"{name}/weight"] = player.model.entity.weight.detach()
        if player.optimizer is not None:
            tensors |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.row_state.items()}
    return tensors


def _dense_tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, player in players.items():
        tensors |= {f"{name}/dense/{key}": value for key, value in player.model.dense_tensors().items()}
        if player.optimizer is not None:
            tensors |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.dense_state().items()}
    return tensors


def _load(checkpoint: Path, players: Mapping[str, Player], keyed: Mapping[str, KeyedRows]) -> dict[str, Tensor]:
    files = [file for file in load_manifest(checkpoint)["files"] if file.startswith("rows_")]
    with open_tensors(checkpoint / "dense.safetensors") as dense:
        tensors = {key: dense.get_tensor(key) for key in dense.keys()}  # noqa: SIM118 (not a dict)
    for key, value in tensors.items():
        check_finite(checkpoint, key, value)
    for name, player in players.items():
        # Rows first, so that another optimizer is noticed by the names of its row state.
        _load_rows(checkpoint, files, name, player)
        _load_dense(checkpoint, name, player, tensors)
    load_keyed(checkpoint, files, keyed)
    return {key.removeprefix("state/"): value for key, value in tensors.items() if key.startswith("state/")}


@torch.no_grad()
def _load_dense(checkpoint: Path, name: str, player: Player, tensors: Mapping[str, Tensor]) -> None:
    for key, parameter in player.model.dense_tensors().items():
        saved = tensors.get(f"{name}/dense/{key}")
        parameter.copy_(_fitting(checkpoint, f"{name}/dense/{key}", saved, parameter, parameter.shape))
    if player.optimizer is not None:
        state = {
            key: _fitting(checkpoint, f"{name}/optimizer/{key}", tensors.get(f"{name}/optimizer/{key}"), own, own.shape)
            for key, own in player.optimizer.dense_state().items()
        }
        if int(state["steps"]) < 0:
            raise InputError(f"{checkpoint}: '{name}/optimizer/steps' must be at least 0, got {int(state['steps'])}")
        player.optimizer.load_dense_state(state)


@torch.no_grad()
def _load_rows(checkpoint: Path, files: list[str], name: str, player: Player) -> None:
    table = player.model.entity
    wanted = {f"{name}/weight": table.weight}
    if player.optimizer is not None:
        wanted |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.row_state.items()}
    first_row = int(table.row_of_entity[table.entity[0]]) if len(table.entity) else 0
    check_entities(checkpoint, files, len(table.row_of_entity))
    for file in files:
        with open_tensors(checkpoint / file) as saved:
            row = table.row_of_entity[saved.get_tensor("entity").to(table.entity.device)] - first_row
            mine = (row >= 0) & (row < len(table.entity))
            for key, own in wanted.items():
                value = saved.get_tensor(key) if key in saved.keys() else None  # noqa: SIM118 (not a dict)
                value = _fitting(checkpoint, key, value, own, (len(row), *own.shape[1:])).to(own.device)[mine]
                check_finite(checkpoint, key, value)
                own[row[mine]] = value.to(own.dtype)


def _fitting(
    checkpoint: Path, key: str, value: Tensor | None, own: Tensor, shape: tuple[int, ...] | torch.Size
) -> Tensor:
    """Returns the saved tensor; raises InputError if it is missing or has another shape or kind of number."""
    if value is None:
        raise InputError(f"{checkpoint} holds no {key!r}: it was made with another model or optimizer")
    if value.shape != torch.Size(shape):
        raise InputError(
            f"{checkpoint}: {key!r} has shape {shown(list(value.shape))}, this run's has {list(shape)}: "
            "it was made with another model, dimension or graph"
        )
    if value.is_floating_point() != own.is_floating_point():
        raise InputError(f"{checkpoint}: {key!r} is of {value.dtype}, this run's is of {own.dtype}")
    return value
