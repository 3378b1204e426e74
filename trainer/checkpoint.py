"""Checkpoints: saved by any number of ranks, resumed by any other, written whole or not at all.

A checkpoint is a folder of safetensors files, which hold nothing that runs on loading: `rows_K_of_W.safetensors` with
the rows of rank K and the entity of each, `dense.safetensors` with what all ranks hold alike. `manifest.json` says
where the run stood and carries the SHA-256 of every file and of itself. A reader takes the rows of the entities that
it owns out of whichever file has them, so neither ranks nor placement need be those of the writer.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedding.model import KGEModel
from embedding.optimizer import ModelOptimizer
from graph.errors import InputError
from trainer.runtime import Runtime

_FORMAT = 1


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
        self, name: str, players: Mapping[str, Player], state: Mapping[str, Tensor], manifest: Mapping[str, Any]
    ) -> Path:
        """Writes a checkpoint. Collective.

        Args:
            name: its folder's name; names sort in the order of saving.
            state: small tensors, equal on all ranks.
            manifest: where the run stands, and what a resumed run must share with it; JSON values.
        Raises:
            InputError: it could not be written; earlier checkpoints are as they were.
        """
        final = self.folder / name
        temporary = self.folder / f"{name}.tmp"
        rows = temporary / f"rows_{self.runtime.rank}_of_{self.runtime.world_size}.safetensors"
        dense = _dense_tensors(players) | {f"state/{name}": value for name, value in state.items()}
        try:
            self._attempt(lambda: self._prepare(temporary), first_only=True)
            self._attempt(lambda: _write_tensors(rows, _row_tensors(players)))
            self._attempt(lambda: _write_tensors(temporary / "dense.safetensors", dense), first_only=True)
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
            _write_text(self.folder / f"{name}.json", json.dumps({"checkpoint": checkpoint.name}))
            self._remove_old()

        self._attempt(write, first_only=True)

    def drop(self, name: str) -> None:
        """Takes a name away, so that what it stood for need not be kept any longer."""
        self._attempt(lambda: (self.folder / f"{name}.json").unlink(missing_ok=True), first_only=True)

    def adopt(self, checkpoint: Path) -> Path:
        """The checkpoint of this name in `folder`, copied there from another run's folder if need be. Collective."""
        own = self.folder / checkpoint.name
        if not own.exists() and not checkpoint.exists():
            raise InputError(f"resume: {checkpoint}, the best of its stage, is gone; resume from a later checkpoint")

        def copy() -> None:
            if not own.exists():
                temporary = self.folder / f"{checkpoint.name}.tmp"
                self._prepare(temporary)
                shutil.copytree(checkpoint, temporary, dirs_exist_ok=True)
                temporary.rename(own)

        self._attempt(copy, first_only=True)
        return own

    def read_manifest(self, checkpoint: Path) -> dict[str, Any]:
        """The manifest, after every file was checked against it. Collective; raises InputError on damage."""
        manifest = load_manifest(checkpoint)
        files = list(manifest["files"].items())
        error = None
        try:
            # Each rank reads a part of the bytes; a damaged file found by one is an error on all.
            for name, digest in files[self.runtime.rank :: self.runtime.world_size]:
                _verify(checkpoint / name, digest)
        except InputError as failure:
            error = str(failure)
        self.runtime.agree(error)
        return manifest

    def load(self, checkpoint: Path, players: Mapping[str, Player]) -> dict[str, Tensor]:
        """Fills the players' models, and their optimisers where they have one; returns the state tensors.

        Verify first with `read_manifest`.
        """
        files = load_manifest(checkpoint)["files"]
        with safe_open(checkpoint / "dense.safetensors", framework="pt") as dense:
            tensors = {key: dense.get_tensor(key) for key in dense.keys()}  # noqa: SIM118 (not a dict)
        for name, player in players.items():
            # Rows first: their names tell another optimizer.
            _load_rows(checkpoint, [file for file in files if file.startswith("rows_")], name, player)
            _load_dense(checkpoint, name, player, tensors)
        return {key.removeprefix("state/"): value for key, value in tensors.items() if key.startswith("state/")}

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
        last = _pointed(pointer) if pointer.exists() else "none yet"
        return f"could not save a checkpoint in {self.folder}: {reason}; the last good one is {last}"

    def _prepare(self, temporary: Path) -> None:
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)

    def _publish(self, temporary: Path, final: Path, manifest: Mapping[str, Any]) -> None:
        files = {path.name: _digest(path) for path in sorted(temporary.glob("*.safetensors"))}
        content = {"format": _FORMAT, "files": files, **manifest}
        _write_text(temporary / "manifest.json", json.dumps({"digest": _digest_of(content), **content}, indent=1))
        void = self.folder / f"{final.name}.void.tmp"
        if final.exists():  # the same step again, after going back to an earlier checkpoint
            final.rename(void)
        temporary.rename(final)
        _sync_folder(self.folder)
        shutil.rmtree(void, ignore_errors=True)

    def _remove_old(self) -> None:
        pointed = {_pointed(path) for path in self.folder.glob("*.json")}
        for checkpoint in sorted(path.parent for path in self.folder.glob("*/manifest.json"))[: -self.keep]:
            if checkpoint.name not in pointed:
                shutil.rmtree(checkpoint)


def find_checkpoint(path: Path, pointer: str, key: str) -> Path:
    """The checkpoint that a user's path means: itself, or what `pointer` names in a run folder.

    Raises:
        InputError: there is none; names the config key that gave the path.
    """
    if (path / "manifest.json").is_file():
        return path
    for folder in (path / "checkpoints", path):
        target = folder / f"{pointer}.json"
        if target.is_file():
            return folder / _pointed(target)
    raise InputError(
        f"{key}: no checkpoint at {path}: expected a checkpoint folder with manifest.json, or a run folder with "
        f"checkpoints/{pointer}.json"
    )


def _pointed(pointer: Path) -> str:
    """The name of the checkpoint that a pointer stands for."""
    try:
        return str(json.loads(pointer.read_bytes())["checkpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{pointer} is damaged: it should name a checkpoint of its folder") from error


def load_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest, checked against its own digest."""
    path = checkpoint / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        digest = manifest.pop("digest")
    except FileNotFoundError as error:
        raise InputError(f"{checkpoint} is not a checkpoint: it has no manifest.json") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if digest != _digest_of(manifest):
        raise InputError(f"{path} is damaged: its content does not have the SHA-256 that it states")
    if manifest["format"] != _FORMAT:
        raise InputError(f"{path}: checkpoint format {manifest['format']}, this version reads {_FORMAT}")
    return manifest


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


@torch.no_grad()
def _load_dense(checkpoint: Path, name: str, player: Player, tensors: Mapping[str, Tensor]) -> None:
    for key, parameter in player.model.dense_tensors().items():
        _check_shape(checkpoint, f"{name}/dense/{key}", tensors.get(f"{name}/dense/{key}"), parameter.shape)
        parameter.copy_(tensors[f"{name}/dense/{key}"])
    if player.optimizer is not None:
        prefix = f"{name}/optimizer/"
        player.optimizer.load_dense_state(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )


@torch.no_grad()
def _load_rows(checkpoint: Path, files: list[str], name: str, player: Player) -> None:
    table = player.model.entity
    wanted = {f"{name}/weight": table.weight}
    if player.optimizer is not None:
        wanted |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.row_state.items()}
    first_row = int(table.row_of_entity[table.entity[0]]) if len(table.entity) else 0
    _check_entities(checkpoint, files, len(table.row_of_entity))
    for file in files:
        with safe_open(checkpoint / file, framework="pt") as saved:
            row = table.row_of_entity[saved.get_tensor("entity").to(table.entity.device)] - first_row
            mine = (row >= 0) & (row < len(table.entity))
            for key, own in wanted.items():
                value = saved.get_tensor(key) if key in saved.keys() else None  # noqa: SIM118 (not a dict)
                _check_shape(checkpoint, key, value, (len(row), *own.shape[1:]))
                assert value is not None
                own[row[mine]] = value.to(own.device)[mine].to(own.dtype)


def _check_entities(checkpoint: Path, files: list[str], expected: int) -> None:
    """Every rank looks at all files, so that all find the same error."""
    found = 0
    for file in files:
        with safe_open(checkpoint / file, framework="pt") as saved:
            found += saved.get_slice("entity").get_shape()[0]
    if found != expected:
        raise InputError(
            f"{checkpoint} holds {found} entities, this run has {expected}: it was made with another graph"
        )


def _check_shape(checkpoint: Path, key: str, value: Tensor | None, shape: tuple[int, ...] | torch.Size) -> None:
    if value is None:
        raise InputError(f"{checkpoint} holds no {key!r}: it was made with another model or optimizer")
    if value.shape != torch.Size(shape):
        raise InputError(
            f"{checkpoint}: {key!r} has shape {list(value.shape)}, this run's has {list(shape)}: "
            "it was made with another model, dimension or graph"
        )


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            yield piece


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _verify(path: Path, digest: str) -> None:
    if not path.is_file():
        raise InputError(f"{path.parent} is damaged: {path.name} is missing")
    if _digest(path) != digest:
        raise InputError(f"{path} is damaged: its content does not have the SHA-256 of manifest.json")
