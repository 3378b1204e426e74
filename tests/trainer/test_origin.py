"""Beginning with a model of a smaller graph: its rows by name, new rows as they are, and what is frozen stays."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from embedding.encoder.choice import EncoderChoice
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import DenseAdam, RowwiseAdagrad
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.encoders import KINDS, LAYER
from tests.ranks import run_on_ranks
from tests.worlds import adam, batch_of, conve, families, lazy_adam, model_of, one_rank, site_of, transe
from trainer.averaging.weights import Weights
from trainer.checkpoint import Checkpointer
from trainer.origin import Origin, Renumbering
from trainer.player import Player
from trainer.runtime import Runtime

LARGER = families()
OLD_ENTITIES = torch.arange(LARGER.num_entities)[torch.arange(LARGER.num_entities) % 9 > 0].flip(0)
"""The ids that the entities of the smaller graph have in the larger one."""
OLD_RELATIONS = torch.tensor([3, 0, 1, 7, 5])


def smaller_train() -> Tensor:
    """The triples that have old names alone, with old ids."""
    entity, relation = torch.full((LARGER.num_entities,), -1), torch.full((LARGER.num_relations,), -1)
    entity[OLD_ENTITIES], relation[OLD_RELATIONS] = torch.arange(len(OLD_ENTITIES)), torch.arange(len(OLD_RELATIONS))
    head, kind, tail = LARGER.train.long().unbind(1)
    triples = torch.stack([entity[head], relation[kind], entity[tail]], 1)
    return triples[(triples >= 0).all(1)]


SMALLER = replace(
    LARGER,
    entity_names=[LARGER.entity_names[each] for each in OLD_ENTITIES.tolist()],
    relation_names=[LARGER.relation_names[each] for each in OLD_RELATIONS.tolist()],
    train=smaller_train(),
)
RENUMBERING = Renumbering(OLD_ENTITIES, OLD_RELATIONS)
BATCH = batch_of(LARGER.train[:40], heads=20)
NEGATIVES = torch.arange(LARGER.num_entities).repeat(40, 1)


def decaying(model: KGEModel) -> ModelOptimizer:
    return DenseAdam(
        model, lr=0.02, relation_lr=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, clip_norm=0.01
    )


def adagrad(model: KGEModel) -> ModelOptimizer:
    return RowwiseAdagrad(model, lr=0.02, relation_lr=0.01, eps=1e-8, clip_norm=None)


Optimizer = Callable[[KGEModel], ModelOptimizer]
every_optimizer = pytest.mark.parametrize("optimizer", [adam, decaying, lazy_adam, adagrad])
CONVE = {"dim": 9, "scoring": partial(conve, batch_norm=True), "reciprocal": True}
ENCODERS = {
    "compgcn, normalised": partial(KINDS["compgcn mult"], **LAYER | {"batch_norm": True}),  # rows of inverse relations
    "rgcn": partial(KINDS["rgcn basis"], **LAYER),  # rows of relations in each layer
}
MODELS = {"transe": {}, "conve, reciprocal": CONVE, **{name: {"encoder": name} for name in ENCODERS}}
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def player_of(graph: KnowledgeGraph, optimizer: Optimizer, runtime: Runtime | None = None, **options: Any) -> Player:
    if "encoder" in options:
        options |= {"encoder": EncoderChoice(ENCODERS[options["encoder"]], graph.train), "max_norm": None}
    model = model_of(site_of(graph, runtime), **{"scoring": transe, "max_norm": 0.3, **options})
    return Player(model, optimizer(model))


def step(player: Player) -> None:
    player.model.begin_step(BATCH)
    positive, negative = player.model.score(BATCH, NEGATIVES)
    (negative.logsumexp(1) - positive).sum().backward()
    assert player.optimizer is not None
    player.optimizer.step()


def tensors(player: Player) -> dict[str, Tensor]:
    """Everything that a step changes: entity rows and their states by entity, all others as they are."""
    table, optimizer = player.model.entity, player.optimizer
    assert optimizer is not None
    of_rows = {
        "entity": player.model.learned_rows,
        **{f"row {key}": value for key, value in optimizer.row_state.items()},
    }
    found = {key: table.gather_all(value).clone() for key, value in of_rows.items()}
    found |= {key: value.detach().clone() for key, value in player.model.dense_tensors().items()}
    for number, name in enumerate(player.model.named_dense_parameters()):
        if name in player.model.rows_of_a_relation():
            states = optimizer.dense_state().items()
            found |= {f"{name} {key}": value.clone() for key, value in states if key.startswith(f"{number}.")}
    return found


def saved(folder: Path, optimizer: Optimizer, **options: Any) -> tuple[Path, Player]:
    """A checkpoint of a model of the smaller graph after a few steps, with numbers in every state."""
    player = player_of(SMALLER, optimizer, **options)
    generator = torch.Generator().manual_seed(4)
    assert player.optimizer is not None
    for value in [*player.optimizer.row_state.values(), *player.optimizer.dense_state().values()]:
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator))
    player.optimizer.steps.fill_(7)
    return Checkpointer(folder, one_rank(), keep=1).save("base", {"discriminator": player}, {}, {}), player


def rows_in(key: str, player: Player) -> tuple[Tensor, Tensor] | None:
    """Which rows of a tensor are known, and the place of each in the smaller model; None if it has no such rows."""
    if key == "entity" or key.startswith("row "):
        return OLD_ENTITIES, torch.arange(len(OLD_ENTITIES))
    times = player.model.rows_of_a_relation().get(key.split(maxsplit=1)[0])
    if times is None:
        return None
    rows = torch.cat([OLD_RELATIONS + number * LARGER.num_relations for number in range(times)])
    return rows, torch.arange(len(rows))


@every_optimizer
@every_model
def test_known_rows_keep_values_and_states_and_new_ones_are_fresh(optimizer: Optimizer, options: dict, tmp_path: Path):
    base, smaller = saved(tmp_path, optimizer, **options)
    larger = player_of(LARGER, optimizer, **options)
    fresh = tensors(larger)
    Checkpointer(tmp_path, one_rank(), keep=1).load_grown(base, {"discriminator": larger}, RENUMBERING)
    assert larger.optimizer is not None
    assert int(larger.optimizer.steps) == 7
    old = tensors(smaller)
    for key, value in tensors(larger).items():
        places = rows_in(key, larger)
        if places is None:
            assert value.equal(old[key])
            continue
        assert value[places[0]].equal(old[key][places[1]])
        new = torch.ones(len(value), dtype=torch.bool)
        new[places[0]] = False
        assert new.any()
        assert value[new].equal(fresh[key][new])


@every_optimizer
@every_model
def test_what_is_frozen_does_not_move_also_after_it_was_saved(optimizer: Optimizer, options: dict, tmp_path: Path):
    base, _ = saved(tmp_path, optimizer, **options)
    checkpointer = Checkpointer(tmp_path, one_rank(), keep=1)
    player = player_of(LARGER, optimizer, **options)
    checkpointer.load_grown(base, {"discriminator": player}, RENUMBERING)
    Origin(base, RENUMBERING, True).freeze(player.model)
    before = tensors(player)
    step(player)
    path = checkpointer.save("later", {"discriminator": player}, {}, {})
    again = player_of(LARGER, optimizer, **options)
    checkpointer.load(path, {"discriminator": again})
    for each in (player, again):
        step(each)
        for key, value in tensors(each).items():
            places = rows_in(key, each)
            if places is None:
                assert value.equal(before[key])
                continue
            new = torch.ones(len(value), dtype=torch.bool)
            new[places[0]] = False
            if " " not in key or key.startswith("row "):  # states of relations may change, for their rows are set back
                assert value[~new].equal(before[key][~new])
            assert not value[new].equal(before[key][new])
    assert tensors(player)["entity"].equal(tensors(again)["entity"])


def test_rows_of_relations_are_those_that_an_encoder_has():
    found = [player_of(LARGER, adam, encoder=name).model.rows_of_a_relation() for name in ENCODERS]
    assert found == [{"relation": 1, "encoder.inverse": 1}, {"relation": 1, "encoder.of_relation.0": 2}]


def test_rows_that_learn_move_as_without_frozen_ones(tmp_path: Path):
    base, _ = saved(tmp_path, adam)
    moved = []
    for freezes in (True, False):
        player = player_of(LARGER, adam)
        Checkpointer(tmp_path, one_rank(), keep=1).load_grown(base, {"discriminator": player}, RENUMBERING)
        if freezes:
            Origin(base, RENUMBERING, True).freeze(player.model)
        step(player)
        moved.append(tensors(player)["entity"])
    new = torch.ones(LARGER.num_entities, dtype=torch.bool)
    new[OLD_ENTITIES] = False
    assert moved[0][new].equal(moved[1][new])
    assert not moved[0].equal(moved[1])


def test_the_average_of_the_smaller_model_is_what_it_begins_with(tmp_path: Path):
    player = player_of(SMALLER, adam)
    average = Weights.of(player.model)
    average.entity.mul_(0.5)
    player.averages = {"average": average}
    path = Checkpointer(tmp_path, one_rank(), keep=1).save("base", {"discriminator": player}, {}, {})
    larger = player_of(LARGER, adam)
    Checkpointer(tmp_path, one_rank(), keep=1).load_grown(path, {"discriminator": larger}, RENUMBERING)
    expected = player.model.entity.gather_all(average.entity)
    assert larger.model.entity.gather_all(larger.model.entity.weight)[OLD_ENTITIES].equal(expected)


def test_a_model_of_another_make_is_refused(tmp_path: Path):
    base, _ = saved(tmp_path, adam)
    checkpointer = Checkpointer(tmp_path, one_rank(), keep=1)
    for player, message in (
        (player_of(LARGER, adagrad), "holds no 'discriminator/optimizer/square_sum': it was made with another"),
        (player_of(LARGER, adam, dim=5), r"'discriminator/weight' has shape \[\d+, 4\], this run's has \[\d+, 5\]"),
    ):
        with pytest.raises(InputError, match=message):
            checkpointer.load_grown(base, {"discriminator": player}, RENUMBERING)
    fewer, player = Renumbering(OLD_ENTITIES[1:], OLD_RELATIONS), player_of(LARGER, adam)
    with pytest.raises(InputError, match="holds 113 entities, this run has 112: it was made with another graph"):
        checkpointer.load_grown(base, {"discriminator": player}, fewer)


def on_ranks(rank: int, world_size: int, base: Path) -> dict[str, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    player = player_of(LARGER, adam, runtime)
    Checkpointer(base.parent, runtime, keep=1).load_grown(base, {"discriminator": player}, RENUMBERING)
    Origin(base, RENUMBERING, True).freeze(player.model)
    if world_size == 1:
        step(player)
        return tensors(player)
    mine = BATCH.share(rank, world_size)
    positive, negative = player.model.score(mine, NEGATIVES[: len(mine.head)])
    (negative.logsumexp(1) - positive).sum().backward()
    assert player.optimizer is not None
    player.optimizer.step()
    return tensors(player)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_begin_and_go_on_alike(world_size: int, tmp_path: Path):
    base, _ = saved(tmp_path, adam)
    alone = on_ranks(0, 1, base)
    for found in run_on_ranks(world_size, on_ranks, base):
        for key, value in found.items():
            assert torch.allclose(value, alone[key], rtol=1e-12, atol=1e-15)
        assert found["entity"][OLD_ENTITIES].equal(alone["entity"][OLD_ENTITIES])
