from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from embedding.model import KGEModel
from generator.baseline import PreviousEpoch
from generator.false_negative_aware import FalseNegativeAwareSampler
from generator.sampler import Reward, SamplerContext
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.known import KnownTriples
from tests.worlds import MODEL_OPTIONS, adam, batch_of, context_of, distmult, families, no_opinion, site_of

FACTS = set(map(tuple, families().train.tolist()))


def sampler_of(context: SamplerContext | None = None, **options: Any) -> FalseNegativeAwareSampler:
    defaults: dict[str, Any] = {
        "model": partial(KGEModel, **MODEL_OPTIONS | {"init_scale": 0.7}, scoring=distmult),
        "optimizer": adam,
        "dim": 4,
        "num_negatives": 4,
        "pool_size": 16,
        "temperature": 1.0,
        "side": "uniform",
        "estimator": "exact",
        "baseline": PreviousEpoch(),
        "replacement": True,
        "entropy_weight": 0.0,
        "entropy_floor": None,
        "normalise_reward": False,
        "hidden_share": 0.3,
        "penalty": 20.0,
        "mask_known": True,
    }
    return FalseNegativeAwareSampler(context or context_of(families()), **(defaults | options))


def facts_of(index: KnownTriples) -> set[tuple[int, ...]]:
    """The facts of an index, one by one."""
    batch = batch_of(families().train)
    inside = index.contains(batch, batch.target[:, None])[:, 0]
    return set(map(tuple, families().train[inside].tolist()))


def corrupted(batch: Batch, entity: torch.Tensor) -> list[list[tuple[int, int, int]]]:
    """The triple that each entity makes of its positive."""
    rows = []
    for row, entities in enumerate(per_positive(entity, len(batch.head)).tolist()):
        head, relation, tail = int(batch.head[row]), int(batch.relation[row]), int(batch.tail[row])
        rows.append([(e, relation, tail) if row < batch.head_rows else (head, relation, e) for e in entities])
    return rows


def equal_rewards(batch: Batch, negatives: Negatives) -> Reward:
    assert negatives.pool is not None
    entity = negatives.pool if negatives.reward_pool else negatives.entity
    value = torch.zeros(len(batch.head), entity.shape[1], dtype=torch.float64)
    return Reward(value, 0.0, {"square of the reward": 0.0})


def test_a_share_of_the_facts_is_hidden_and_the_rest_is_masked():
    sampler = sampler_of()
    hidden, masked = facts_of(sampler.hidden), facts_of(sampler.masked)
    assert hidden | masked == FACTS
    assert not hidden & masked
    error = (0.3 * 0.7 / len(FACTS)) ** 0.5
    assert len(hidden) / len(FACTS) == pytest.approx(0.3, abs=4 * error)


def test_which_facts_are_hidden_is_a_function_of_seed_and_fact():
    hidden = facts_of(sampler_of().hidden)
    graph = replace(families(), train=families().train.flip(0))
    assert facts_of(sampler_of(context_of(graph)).hidden) == hidden
    assert facts_of(sampler_of(context_of(families(), site_of(families(), seed=4))).hidden) != hidden


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_pools_hold_the_targets_of_hidden_positives_and_never_draw_visible_facts(chunk_size: int):
    sampler = sampler_of(num_negatives=40)
    batch = batch_of(families().train[:400], heads=200 // chunk_size, chunk_size=chunk_size)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.pool is not None
    assert negatives.known is not None
    hidden, masked = facts_of(sampler.hidden), facts_of(sampler.masked)
    uniform = batch.integers("candidates", 16, families().num_entities)
    found = 0
    for row, pool in enumerate(per_positive(negatives.pool, 400).tolist()):
        fact = tuple(torch.stack([batch.head, batch.relation, batch.tail])[:, row].tolist())
        if fact in hidden:
            found += 1
            assert int(batch.target[row]) in pool
    assert found > 80
    assert (negatives.pool != uniform).sum() <= found
    draws = corrupted(batch, negatives.entity)
    assert not any(triple in masked for row in draws for triple in row)
    drawn = torch.tensor([[triple in hidden for triple in row] for row in draws])
    assert drawn.any()
    # The loss leaves out every draw that is a fact, hidden or not.
    assert negatives.known.equal(drawn)
    assert sampler.metrics()["generator/hidden_train"].equal(drawn.double().mean(1))


@pytest.mark.parametrize("estimator", ["exact", "reinforce"])
@pytest.mark.parametrize("mask_known", [True, False])
def test_drawing_a_fact_costs_the_penalty(estimator: str, mask_known: bool):
    sampler = sampler_of(estimator=estimator, mask_known=mask_known)
    batch = batch_of(families().train[:200], heads=100)
    negatives = sampler.propose(batch, no_opinion)
    earned = sampler.earned(batch, negatives, equal_rewards(batch, negatives))
    entity = negatives.pool if estimator == "exact" else negatives.entity
    assert entity is not None
    costly = facts_of(sampler.hidden) if mask_known else FACTS
    expected = torch.tensor([[20.0 * (triple in costly) for triple in row] for row in corrupted(batch, entity)])
    assert expected.any()
    assert earned.value.equal(-expected.double())


def test_it_learns_to_leave_hidden_facts_alone():
    sampler = sampler_of(dim=8)
    batch = batch_of(families().train[::2], heads=400)

    def rate() -> float:
        sampler.propose(batch, no_opinion)
        sampler.model.entity.take_gradient()  # nothing was learned from this proposal
        return float(sampler.metrics()["generator/hidden_train"].mean())

    before = rate()
    for epoch in range(1, 30):
        step = replace(batch, epoch=epoch)
        negatives = sampler.propose(step, no_opinion)
        sampler.feedback(step, negatives, equal_rewards(step, negatives))
    assert rate() < 0.3 * before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_share": 0.0}, "generator.hidden_share must be above 0 and below 1, got 0.0"),
        ({"hidden_share": 1.0}, "generator.hidden_share must be above 0 and below 1, got 1.0"),
        ({"penalty": -1.0}, "generator.penalty must be at least 0, got -1.0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        sampler_of(**options)
    assert str(error.value) == message
