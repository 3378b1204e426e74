"""The tensors of models in a checkpoint's files: weights, the state of optimisers, and averages of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.optimizer import ModelOptimizer
from graph.errors import InputError
from trainer.averaging.weights import Weights
from trainer.checkpoint_files import open_tensors
from trainer.keyed_shards import load_keyed
from trainer.manifest import load_manifest
from trainer.row_check import check_entities, check_finite, fitting


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
    return tensors


def dense_tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    """What a checkpoint holds of the tensors that are equal on all ranks, by name."""
    tensors: dict[str, Tensor] = {}
    for name, player in players.items():
        for place, weights in _weights(name, player).items():
            tensors |= {f"{place}/dense/{key}": value for key, value in weights.dense.items()}
        if player.optimizer is not None:
            tensors |= {f"{name}/optimizer/{key}": value for key, value in player.optimizer.dense_state().items()}
    return tensors


def _weights(name: str, player: Player, *, average: bool = False) -> dict[str, Weights]:
    """The weights of a player by their place in files. With `average`, the model's own are those of its average."""
    own = Weights(player.model.entity.weight, player.model.dense_tensors())
    others = {f"{name}/{key}": weights for key, weights in player.averages.items()}
    return {f"{name}/average" if average else name: own, **others}


def load_players(
    checkpoint: Path, players: Mapping[str, Player], keyed: Mapping[str, KeyedRows], *, averaged: bool
) -> dict[str, Tensor]:
    """Loads players and keyed rows in place; returns the state tensors. See `Checkpointer`.

    Args:
        averaged: if the checkpoint has an average of a model's weights, the model gets it instead of its own weights.
    """
    files = row_files(checkpoint)
    tensors = _read_dense(checkpoint)
    for name, player in players.items():
        weights = _weights(name, player, average=averaged and _has_average(name, tensors))
        # Rows first, so that another optimizer is noticed by the names of its row state.
        _load_rows(checkpoint, files, name, player, weights)
        _load_dense(checkpoint, name, player, weights, tensors)
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
    _load_dense(checkpoint, name, player, weights, tensors)
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
    checkpoint: Path, name: str, player: Player, weights: Mapping[str, Weights], tensors: Mapping[str, Tensor]
) -> None:
    for place, each in weights.items():
        for key, own in each.dense.items():
            saved = tensors.get(f"{place}/dense/{key}")
            own.copy_(fitting(checkpoint, f"{place}/dense/{key}", saved, own, own.shape))
    if player.optimizer is not None:
        state = {
            key: fitting(checkpoint, f"{name}/optimizer/{key}", tensors.get(f"{name}/optimizer/{key}"), own, own.shape)
            for key, own in player.optimizer.dense_state().items()
        }
        if int(state["steps"]) < 0:
            raise InputError(f"{checkpoint}: '{name}/optimizer/steps' must be at least 0, got {int(state['steps'])}")
        player.optimizer.load_dense_state(state)


@torch.no_grad()
def _load_rows(checkpoint: Path, files: list[str], name: str, player: Player, weights: Mapping[str, Weights]) -> None:
    table = player.model.entity
    wanted = {f"{place}/weight": each.entity for place, each in weights.items()}
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
                value = fitting(checkpoint, key, value, own, (len(row), *own.shape[1:])).to(own.device)[mine]
                check_finite(checkpoint, key, value)
                own[row[mine]] = value.to(own.dtype)
