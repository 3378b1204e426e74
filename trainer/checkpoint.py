"""Checkpoints: saved by any number of ranks, resumed by any other, written whole or not at all.

A checkpoint is a folder of safetensors files, which hold nothing that runs on loading: `rows_K_of_W.safetensors` with
the rows of rank K and the entity of each, and its part of what a sampler keeps by key; `dense.safetensors` with what
all ranks hold alike. `manifest.json` says where the run stood and carries the SHA-256 of every file and of itself. A
reader takes the rows of the entities that it owns out of whichever file has them, so neither ranks nor placement need
be those of the writer.
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
    """What a checkpoint holds of one player: its model, and what steps it now (None: nothing does)."""

    model: KGEModel
    optimizer: ModelOptimizer | None


class Checkpointer:
    """Saves to and loads from `folder`, which holds checkpoints by step and pointers to them by name.

    Args:
        keep: how many checkpoints to keep beside those that a pointer names.
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
        """Writes a checkpoint. Collective.

        Args:
            name: its folder's name; names sort in the order of saving.
            state: small tensors, equal on all ranks.
            manifest: where the run stands, and what a resumed run must share with it; JSON values.
            keyed: rows of a sampler that are partitioned over the ranks.
        Raises:
            InputError: it could not be written; earlier checkpoints are as they were.
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
            # What could be written would only fill the disk.
            if self.runtime.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def point(self, name: str, checkpoint: Path) -> None:
        """Makes a name ("latest", "best_adversarial") stand for a checkpoint, and drops what is no longer wanted."""

        def write() -> None:
            write_pointer(self.folder / f"{name}.json", checkpoint.name)
            self._remove_old()

        self._attempt(write, first_only=True)

    def drop(self, name: str) -> None:
        """Takes a name away, so that what it stood for need not be kept any longer."""
        self._attempt(lambda: (self.folder / f"{name}.json").unlink(missing_ok=True), first_only=True)

    def adopt(self, checkpoint: Path) -> Path:
        """The checkpoint of this name in `folder`, copied there from another run's folder if need be. Collective.

        Raises:
            InputError: it is gone, or damaged.
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
        """The manifest, after every file was checked against it. Collective; raises InputError on damage.

        Args:
            needed: fields that it must have.
        """
        manifest = load_manifest(checkpoint, *needed)
        files = list(manifest["files"].items())
        error = None
        try:
            # Each rank reads a part of the bytes; a damaged file found by one is an error on all.
            for name, digest in files[self.runtime.rank :: self.runtime.world_size]:
                verify(checkpoint / name, digest)
        except InputError as failure:
            error = str(failure)
        self.runtime.agree(error)
        return manifest

    def load(
        self, checkpoint: Path, players: Mapping[str, Player], keyed: Mapping[str, KeyedRows] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        """Fills the players' models, their optimisers where they have one, and keyed rows; returns the state tensors.

        Collective.

        Verify first with `read_manifest`.

        Raises:
            InputError: tensors that do not fit this run, not a row for each entity, numbers that are not finite.
        """
        state: dict[str, Tensor] = {}
        error = None
        try:
            state = _load(checkpoint, players, keyed)
        except InputError as failure:  # a rank checks the rows that it takes; what one finds is an error on all
            error = str(failure)
        self.runtime.agree(error)
        return state

    def _attempt(self, action: Any, *, first_only: bool = False) -> None:
        """Runs an action that writes, on rank 0 or on all; a failure on any is the same error on all."""
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
    """The checkpoint that a user's path means: itself, or what `pointer` names in a run folder.

    Raises:
        InputError: there is none; names the config key that gave the path.
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
        # The placement is the run's, so all tables have the same rows here.
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
        # Rows first: their names tell another optimizer.
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
    """The saved tensor, which must have this shape and be of numbers of the kind that this run has there."""
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
