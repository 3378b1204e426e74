from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.diverse import DiverseSampler
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import batch_of, context_of, families, graph_of, model_of, set_entities, site_of

OPTIONS: dict[str, Any] = {
    "num_negatives": 5,
    "pool_size": 40,
    "hardness": 0.5,
    "repulsion": 4.0,
    "mask_known": False,
}
NUM = families().num_entities
FEW = graph_of([(0, 0, 1)], num_entities=4, num_relations=1)
PLAUSIBLE = torch.tensor([0.0, 1.0, 3.0, -2.0], dtype=torch.float64)


def sampler_of(graph: KnowledgeGraph | None = None, **options: Any) -> DiverseSampler:
    graph = graph or families()
    site = site_of(graph)
    return DiverseSampler(context_of(graph, site, model_of(site)), **(OPTIONS | options))


def plausible(entity: Tensor) -> Tensor:
    """A score of the entity alone, for pools of chunks of one positive."""
    return entity.double().mul(0.7).sin()


def test_hardness_0_is_a_uniform_draw_whatever_scores_and_likeness_are():
    sampler = sampler_of(hardness=0.0)
    batch = batch_of(families().train.repeat(3, 1))
    entity = sampler.propose(batch, plausible).entity
    assert chisquare(torch.bincount(entity.flatten(), minlength=NUM).numpy()).pvalue > 1e-3
    assert all(len(set(row)) == 5 for row in entity.tolist())
    assert sampler_of(hardness=0.0, repulsion=0.0).propose(batch, lambda e: -plausible(e)).entity.equal(entity)


def test_hardness_1_takes_the_best_of_the_pool():
    batch = batch_of(families().train[:50])
    negatives = sampler_of(hardness=1.0, repulsion=100.0).propose(batch, plausible)
    assert negatives.pool is not None
    for chosen, pool in zip(negatives.entity.tolist(), negatives.pool.tolist(), strict=True):
        assert chosen == sorted(set(pool), key=lambda e: -float(plausible(torch.tensor(e))))[:5]


def test_without_repulsion_it_draws_from_the_softmax_of_standardised_scores():
    # Hardness 2/3 is twice the score. 60 candidates of 4 entities: pools have them all, but not alike often, which the
    # scale of scores follows; so it is fixed by looking only at pools that happen to have each 15 times.
    sampler = sampler_of(FEW, num_negatives=2, pool_size=8, hardness=2 / 3, repulsion=0.0)
    negatives = sampler.propose(batch_of(FEW.train.repeat(60_000, 1)), lambda e: PLAUSIBLE[e])
    assert negatives.pool is not None
    even = (torch.stack([(negatives.pool == entity).sum(1) for entity in range(4)]) == 2).all(0)
    drawn = Counter(tuple(row) for row in negatives.entity[even].tolist())
    p = (2 * (PLAUSIBLE - PLAUSIBLE.mean()) / PLAUSIBLE.std(correction=0)).softmax(0).tolist()
    pairs = list(permutations(range(4), 2))
    expected = [int(even.sum()) * p[i] * p[j] / (1 - p[i]) for i, j in pairs]
    assert int(even.sum()) > 1000
    assert chisquare([drawn[pair] for pair in pairs], expected).pvalue > 1e-3


def test_repulsion_makes_negatives_unlike_each_other():
    batch = batch_of(families().train[:200])
    cosines, scores = [], []
    for repulsion in (0.0, 2.0, 8.0, 32.0):
        sampler = sampler_of(repulsion=repulsion, hardness=0.7)
        # The hardest resemble each other: scores follow one direction of the rows.
        rows = sampler.context.player.entity.gather_all(sampler.context.player.entity.weight)
        entity = sampler.propose(batch, lambda e, rows=rows: rows[e] @ torch.ones(4, dtype=torch.float64)).entity
        unit = torch.nn.functional.normalize(rows[entity], dim=2)
        mean = ((unit @ unit.transpose(1, 2)).sum((1, 2)) - 5) / 20
        assert torch.allclose(sampler.metrics()["generator/similarity"], mean)
        cosines.append(float(mean.mean()))
        scores.append(float(rows[entity].sum(2).mean()))
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[-1] < cosines[0] - 0.3
    assert scores == sorted(scores, reverse=True)  # what it costs


def test_each_choice_is_the_best_less_its_likeness_to_those_before():
    sampler = sampler_of(FEW, num_negatives=3, pool_size=64, hardness=0.9999, repulsion=3e4)
    # Nearly no noise; a likeness of 1 costs 3 of the spread of scores. Entity 1 is like 2, which is best, 0 is not.
    row = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)
    set_entities(sampler.context.player, row)
    entity = sampler.propose(batch_of(FEW.train.repeat(20, 1)), lambda e: PLAUSIBLE[e]).entity
    assert entity.equal(torch.tensor([2, 0, 3]).expand(20, 3))


@pytest.mark.parametrize("hardness", [0.5, 1.0])
def test_train_facts_are_chosen_last(hardness: float):
    graph = graph_of([(0, 0, tail) for tail in (1, 2)], num_entities=4, num_relations=1)
    batch = batch_of(graph.train[:1].repeat(50, 1))
    sampler = sampler_of(graph, num_negatives=16, pool_size=16, hardness=hardness, mask_known=True)
    negatives = sampler.propose(batch, lambda e: PLAUSIBLE[e])
    assert negatives.known is not None
    assert negatives.pool is not None
    assert negatives.entity.sort(1).values.equal(negatives.pool.sort(1).values)
    assert (negatives.known.int().diff(dim=1) >= 0).all()
    assert negatives.known[:, -1].any()


def test_one_negative_has_a_likeness_too():
    sampler = sampler_of(num_negatives=1)
    sampler.propose(batch_of(families().train[:3]), plausible)
    assert sampler.metrics()["generator/similarity"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, r"generator.num_negatives must be at least 1, got 0"),
        ({"pool_size": 4}, r"generator.pool_size must be at least 5, got 4"),
        ({"hardness": 1.01}, r"generator.hardness must be from 0 to 1, got 1.01"),
        ({"repulsion": -1.0}, r"generator.repulsion must be at least 0, got -1.0"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)
