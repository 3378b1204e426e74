"""The tensors of models in a checkpoint's files: weights, the state of optimisers, and averages of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from embedding.frozen import FrozenRows
from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from graph.errors import InputError
from trainer.averaging.weights import Weights
from trainer.checkpoint_files import open_tensors
from trainer.keyed_shards import load_keyed
from trainer.manifest import load_manifest
from trainer.origin import Renumbering
from trainer.row_check import check_entities, check_finite, fitting

_BLOCK_BYTES = 1 << 26
"""Bytes of a checkpoint's rows that are read at a time: all would take the memory of the table again, and more."""


@dataclass
class Player:
    """A model to save or load, and its optimiser; None if no optimiser updates it now."""

    model: KGEModel
    optimizer: ModelOptimizer | None
    averages: Mapping[str, Weights] = field(default_factory=dict)
    """Averages of the model's weights, by their name in files; see `Average.saved`."""


def row_tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    """What a checkpoint holds of this rank's entity rows, by name; and `entity`, the entity of each row."""
    tensors: dict[str, Tensor] = {}
    for name, player in players.items():
        # All tables use the run's placement, so they have the same entities on this rank.
        tensors["entity"] = player.model.entity.entity
        tensors |= {f"{place}/weight": weights.entity.detach() for place, weights in _weights(name, player).items()}
        if player.optimizer is not None:
            tensors |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.row_state.items()}
        if player.model.frozen is not None:
            tensors[f"{name}/frozen"] = player.model.frozen.entity
    return tensors


def dense_tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    """What a checkpoint holds of the tensors that are equal on all ranks, by name."""
    tensors: dict[str, Tensor] = {}
    for name, player in players.items():
        for place, weights in _weights(name, player).items():
            tensors |= {f"{place}/dense/{key}": value for key, value in weights.dense.items()}
        if player.optimizer is not None:
            tensors |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.dense_state().items()}
        if player.model.frozen is not None:
            tensors[f"{name}/frozen"] = player.model.frozen.relation
    return tensors


def _weights(name: str, player: Player, *, average: bool = False) -> dict[str, Weights]:
    """The weights of a player by their place in files. With `average`, the model's own are those of its average."""
    own = Weights(player.model.learned_rows, player.model.dense_tensors())
    others = {f"{name}/{key}": weights for key, weights in player.averages.items()}
    return {f"{name}/average" if average else name: own, **others}


def load_players(
    checkpoint: Path,
    players: Mapping[str, Player],
    keyed: Mapping[str, KeyedRows],
    *,
    averaged: bool,
    renumbering: Renumbering | None = None,
) -> dict[str, Tensor]:
    """Loads players and keyed rows in place; returns the state tensors. See `Checkpointer`.

    Args:
        averaged: if the checkpoint has an average of a model's weights, the model gets it instead of its own weights.
        renumbering: the checkpoint is of a smaller graph: rows of its entities and relations go to where these are in
            this run, and the other rows stay as they are. None: it is of the same graph.
    """
    files = row_files(checkpoint)
    tensors = _read_dense(checkpoint)
    for name, player in players.items():
        weights = _weights(name, player, average=averaged and _has_average(name, tensors))
        is_frozen = f"{name}/frozen" in tensors and not averaged
        frozen = torch.zeros_like(player.model.learned_rows[:, 0], dtype=torch.bool) if is_frozen else None
        # Rows first, so that another optimizer is noticed by the names of its row state.
        _load_rows(checkpoint, files, name, player, weights, frozen, renumbering)
        _load_dense(checkpoint, name, player, weights, tensors, renumbering)
        if frozen is not None:
            own = torch.zeros(len(player.model.scorer.relation), dtype=torch.bool)
            relation = fitting(checkpoint, f"{name}/frozen", tensors[f"{name}/frozen"], own, own.shape)
            relation = relation.to(frozen.device, torch.bool)
            dense, times = player.model.dense_tensors(), player.model.rows_of_a_relation()
            player.model.frozen = FrozenRows(frozen, relation, dense, times)
    load_keyed(checkpoint, files, keyed)
    return {key.removeprefix("state/"): value for key, value in tensors.items() if key.startswith("state/")}


def load_trained_dense(checkpoint: Path, name: str, model: KGEModel) -> str:
    """Loads what a trained model has beside entity rows: of its average, if the checkpoint has one.

    Returns:
        The place of the loaded weights in the checkpoint's files: its entity rows are the tensors PLACE/weight.
    Raises:
        InputError: as for `Checkpointer.load`.
    """
    tensors, player = _read_dense(checkpoint), Player(model, None)
    weights = _weights(name, player, average=_has_average(name, tensors))
    _load_dense(checkpoint, name, player, weights, tensors, None)
    (place,) = weights
    return place


def row_files(checkpoint: Path) -> list[str]:
    """The names of the files that hold entity rows, one for each rank that saved the checkpoint."""
    return [file for file in load_manifest(checkpoint)["files"] if file.startswith("rows_")]


def _read_dense(checkpoint: Path) -> dict[str, Tensor]:
    with open_tensors(checkpoint / "dense.safetensors") as dense:
        tensors = {key: dense.get_tensor(key) for key in dense.keys()}  # noqa: SIM118 (not a dict)
    for key, value in tensors.items():
        check_finite(checkpoint, key, value)
    return tensors


def _has_average(name: str, tensors: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(f"{name}/average/") for key in tensors)


@torch.no_grad()
def _load_dense(
    checkpoint: Path,
    name: str,
    player: Player,
    weights: Mapping[str, Weights],
    tensors: Mapping[str, Tensor],
    renumbering: Renumbering | None,
) -> None:
    rows = {} if renumbering is None else renumbering.relation_rows(player.model)

    def fill(key: str, own: Tensor, into: Tensor | None) -> None:
        shape = own.shape if into is None else (len(into), *own.shape[1:])
        value = fitting(checkpoint, key, tensors.get(key), own, shape).to(own.device)
        if into is None:
            own.copy_(value)
        else:
            own[into] = value.to(own.dtype)

    for place, each in weights.items():
        for key, own in each.dense.items():
            fill(f"{place}/dense/{key}", own, rows.get(key))
    if player.optimizer is not None:
        names = list(player.model.named_dense_parameters())
        state = {key: value.clone() for key, value in player.optimizer.dense_state().items()}
        for key, own in state.items():
            number = key.partition(".")[0]  # "steps" is of no parameter
            fill(f"{name}/optimizer/{key}", own, rows.get(names[int(number)]) if number.isdigit() else None)
        if int(state["steps"]) < 0:
            raise InputError(f"{checkpoint}: '{name}/optimizer/steps' must be at least 0, got {int(state['steps'])}")
        player.optimizer.load_dense_state(state)


@torch.no_grad()
def _load_rows(
    checkpoint: Path,
    files: list[str],
    name: str,
    player: Player,
    weights: Mapping[str, Weights],
    frozen: Bool[Tensor, " L"] | None,
    renumbering: Renumbering | None,
) -> None:
    table = player.model.entity
    wanted = {f"{place}/weight": each.entity for place, each in weights.items()}
    if player.optimizer is not None:
        wanted |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.row_state.items()}
    if frozen is not None:
        wanted[f"{name}/frozen"] = frozen
    first_row = int(table.row_of_entity[table.entity[0]]) if len(table.entity) else 0
    row_of_saved = table.row_of_entity
    if renumbering is not None:
        row_of_saved = row_of_saved[renumbering.entity.to(row_of_saved.device)]
    check_entities(checkpoint, files, len(row_of_saved))
    if table.storage is not None:
        table.storage.has_changed()
    for file in files:
        with open_tensors(checkpoint / file) as saved:
            row = row_of_saved[saved.get_tensor("entity").to(row_of_saved.device)].sub_(first_row)
        for key, own in wanted.items():
            size = max(1, _BLOCK_BYTES // max(1, own[:1].nbytes))
            for first in range(0, len(row), size) or (0,):
                # Opened anew: the pages of a file that were read count as this process's memory until it is closed.
                with open_tensors(checkpoint / file) as saved:
                    whole = _fitting_slice(checkpoint, key, saved, own, len(row))
                    into = row[first : first + size]
                    mine = (into >= 0) & (into < len(table.entity))
                    value = whole[first : first + size].to(own.device)[mine]
                    check_finite(checkpoint, key, value)
                    own[into[mine]] = value.to(own.dtype)
                if table.storage is not None:
                    table.storage.release(own)


def _fitting_slice(checkpoint: Path, key: str, saved: Any, own: Tensor, rows: int) -> Any:
    """A saved tensor that is read only where it is sliced, after its shape and type are checked; see `fitting`."""
    whole, like = None, None
    if key in saved.keys():  # noqa: SIM118 (not a dict)
        whole = saved.get_slice(key)
        shape = whole.get_shape()
        like = torch.empty(shape, dtype=whole[:0].dtype if shape else None, device="meta")
    fitting(checkpoint, key, like, own, (rows, *own.shape[1:]))
    return whole
