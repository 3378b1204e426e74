from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.k_hop import KHopSampler
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import batch_of, context_of, families, graph_of, no_opinion

OPTIONS: dict[str, Any] = {
    "num_negatives": 30_000,
    "hops": 2,
    "pool": "exact",
    "memory_mb": 1,
    "uniform_share": 0.0,
    "mask_known": False,
    "redraw_known": False,
}
# A path 0 - 1 - 2 - 3 - 4 with a branch 1 - 5, a loop at 6, and 7 alone.
PATH = graph_of([(0, 0, 1), (2, 0, 1), (2, 1, 3), (4, 0, 3), (1, 1, 5), (6, 0, 6)], num_entities=8, num_relations=2)


def sampler_of(graph: KnowledgeGraph = PATH, **options: Any) -> KHopSampler:
    return KHopSampler(context_of(graph), **(OPTIONS | options))


def transitions(graph: KnowledgeGraph) -> Tensor:
    """The chance to step from each entity (row) to each other one."""
    adjacent = torch.zeros((graph.num_entities, graph.num_entities), dtype=torch.float64)
    for head, _, tail in graph.train.tolist():
        if head != tail:
            adjacent[head, tail] = adjacent[tail, head] = 1
    return adjacent / adjacent.sum(1, keepdim=True).clamp(min=1)


def near(graph: KnowledgeGraph, hops: int) -> Tensor:
    """Uniform over the entities within so many hops (row: of the anchor)."""
    step = transitions(graph)
    reached = torch.eye(graph.num_entities, dtype=torch.float64)
    for _ in range(hops):
        reached = reached + reached @ step
    reached = (reached > 0).double().fill_diagonal_(0)
    return reached / reached.sum(1, keepdim=True).clamp(min=1)


def ends(graph: KnowledgeGraph, hops: int) -> Tensor:
    """Where walks of 1 to `hops` steps end; the third that comes back is given up, for a uniform entity."""
    step = transitions(graph)
    once = sum(torch.linalg.matrix_power(step, length) for length in range(1, hops + 1)) / hops
    back = once.diagonal().clone()[:, None]
    gone = once.clone().fill_diagonal_(0)
    tried = gone * (1 + back + back**2)
    return tried + (1 - tried.sum(1, keepdim=True)) / graph.num_entities


@pytest.mark.parametrize("graph", [PATH, families()])
@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("pool", ["exact", "walks"])
def test_draws_from_what_is_near(graph: KnowledgeGraph, hops: int, share: float, pool: str):
    sampler = sampler_of(graph, hops=hops, uniform_share=share, pool=pool)
    batch = batch_of(graph.train[:: len(graph.train) // 5], heads=2)
    negatives = sampler.propose(batch, no_opinion)
    of_pool = (near if pool == "exact" else ends)(graph, hops)
    for row, anchor in enumerate(batch.anchor.tolist()):
        probability = of_pool[anchor] * (1 - share) + share / graph.num_entities
        if not of_pool[anchor].any():  # nothing is near
            probability = torch.full_like(probability, 1 / graph.num_entities)
        some = probability > 1e-15
        count = torch.bincount(negatives.entity[row], minlength=graph.num_entities)
        assert not count[~some].any()
        expected = 30_000 * probability / probability.sum()
        common = expected >= 5  # rarer ones are not chi-square's
        rest = expected[~common].sum()
        assert abs(float(count[~common].sum() - rest)) <= 6 * float(rest) ** 0.5 + 3
        kept = count[common].double()
        fair = expected[common] * kept.sum() / expected[common].sum()
        assert int(common.sum()) == 1 or chisquare(kept.numpy(), fair.numpy()).pvalue > 1e-3
        if negatives.proposal is not None:
            assert torch.allclose(negatives.proposal.negative[row].exp(), probability[negatives.entity[row]])
            assert float(negatives.proposal.target[row].exp()) == pytest.approx(float(probability[batch.target[row]]))
    assert (negatives.proposal is not None) == (pool == "exact" and share > 0)


def test_walks_begin_at_the_anchor_again():
    # From 0, the end of the path, 3 steps never lead beyond 3, however many walks there are.
    batch = batch_of(PATH.train[:1])
    entity = sampler_of(hops=3, pool="walks").propose(batch, no_opinion).entity
    share_of_uniform = 1 / PATH.num_entities * 0.02
    assert float((entity == 4).double().mean()) < share_of_uniform + 0.002
    assert {1, 2, 3, 5} <= set(entity.unique().tolist())


@pytest.mark.parametrize("pool", ["exact", "walks"])
def test_says_how_often_nothing_is_near(pool: str):
    sampler = sampler_of(pool=pool, num_negatives=200)
    sampler.propose(batch_of(PATH.train[[0, 5]]), no_opinion)
    share = sampler.metrics()["generator/no_pool"].tolist()
    assert share[0] < 0.2
    assert share[1] == 1


def test_train_facts_are_drawn_again():
    batch = batch_of(families().train[:30], heads=10)
    negatives = sampler_of(families(), num_negatives=100, redraw_known=True).propose(batch, no_opinion)
    assert negatives.known is not None
    assert not negatives.known.any()
    assert not families_known(batch, negatives.entity).any()
    pool = near(families(), 2)
    for row, anchor in enumerate(batch.anchor.tolist()):
        assert (pool[anchor][negatives.entity[row]] > 0).all()


def families_known(batch, entity: Tensor) -> Tensor:
    return context_of(families()).known.contains(batch, entity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": 0}, r"generator.hops must be at least 1, got 0"),
        ({"pool": "some"}, r"generator.pool must be one of exact, walks, got 'some'"),
        ({"memory_mb": 0}, r"generator.memory_mb must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)


def test_sets_that_are_too_large_are_an_error_and_walks_are_not():
    star = graph_of([(0, 0, each) for each in range(600)], num_entities=600, num_relations=1)
    with pytest.raises(InputError, match=r"generator.memory_mb=1: .* use generator.pool=walks"):
        sampler_of(star)
    sampler_of(star, pool="walks")
