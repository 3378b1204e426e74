from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.hasa import HaSaSampler
from graph.batch import Batch
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import batch_of, context_of, families, graph_of, model_of, no_opinion, site_of

OPTIONS: dict[str, Any] = {"num_hard": 3, "num_suspected": 2, "bank_size": None}
NUM = families().num_entities
# 0 asks; 1 and 2 answer, and lead on to 3 and 4, and to 4 and 5; 6 and 7 are far away.
STAR = graph_of(
    [(0, 0, 1), (0, 0, 2), (1, 1, 3), (4, 1, 1), (2, 1, 4), (5, 1, 2), (6, 1, 7), (6, 0, 5)],
    num_entities=8,
    num_relations=2,
)


def sampler_of(graph: KnowledgeGraph | None = None, **options: Any) -> HaSaSampler:
    graph = graph or families()
    site = site_of(graph)
    return HaSaSampler(context_of(graph, site, model_of(site)), **(OPTIONS | options))


def unknown_scores(sampler: HaSaSampler, batch: Batch) -> Tensor:
    everyone = torch.arange(NUM)[None]
    assert sampler.context.player is not None
    score = sampler.context.player.score_candidates(batch, everyone).detach()
    return score.masked_fill(sampler.context.known.contains(batch, everyone), -torch.inf)


def test_the_hardest_are_those_of_highest_score_that_are_no_train_answers():
    sampler = sampler_of()
    batch = batch_of(families().train[:60], heads=25)
    entity = sampler.propose(batch, no_opinion).entity
    assert entity[:, :3].equal(unknown_scores(sampler, batch).topk(3, dim=1).indices)


def test_the_hardest_of_a_bank_are_its_best_that_are_no_train_answers():
    asked = []

    def score(entity: Tensor) -> Tensor:
        asked.append(entity)
        return entity.repeat_interleave(2, dim=0).double() - 1000

    sampler = sampler_of(bank_size=30)
    batch = batch_of(families().train[:40], heads=5, chunk_size=2)
    entity = sampler.propose(batch, score).entity
    known = sampler.context.known.contains(batch, torch.arange(NUM)[None])
    for row, chosen in enumerate(entity[:, :3].tolist()):
        bank = set(asked[0][row // 2].tolist()) - set(known[row].nonzero()[:, 0].tolist())
        assert chosen == sorted(bank, reverse=True)[:3]


def test_suspects_are_near_and_no_train_answers():
    sampler = sampler_of(num_suspected=20)
    batch = batch_of(families().train[:200], heads=100)
    negatives = sampler.propose(batch, no_opinion)
    suspects = slice(3, None)
    assert negatives.suspected is not None
    assert negatives.known is not None
    near = sampler.near.contains(batch.anchor, negatives.entity)
    assert negatives.suspected.equal(near & ~negatives.known)  # a fact that is known is not missing
    assert negatives.suspected[:, suspects].double().mean() > 0.95
    assert not (negatives.entity == batch.anchor[:, None])[negatives.suspected].any()
    metrics = sampler.metrics()
    assert metrics["generator/suspected_of_hard"].equal(negatives.suspected[:, :3].double().mean(1))
    assert metrics["generator/suspected"].equal(negatives.suspected.double().mean(1))


def test_more_paths_make_a_suspect_likelier():
    sampler = sampler_of(STAR, num_suspected=20_000)
    batch = batch_of(STAR.train[:1])
    entity = sampler.propose(batch, no_opinion).entity[0, 3:]
    # From 0 to 1 or 2 and on, to one of three neighbours; 1 and 2 answer and 0 asks, so they are walked again. Four
    # walks that all fail, each with chance 1/2 + 1/2 * 1/3, leave the uniform stand-in.
    good = {3: 1 / 12, 4: 1 / 6, 5: 1 / 12}
    fail = 1 - sum(good.values())
    probability = [fail**4 / 8 + (1 - fail**4) * good.get(e, 0) / (1 - fail) for e in range(8)]
    count = torch.bincount(entity, minlength=8)
    assert chisquare(count.numpy(), [20_000 * p for p in probability]).pvalue > 1e-3


def test_where_no_walk_ends_well_a_uniform_entity_is_not_suspected():
    graph = graph_of([(0, 0, 1)], num_entities=50, num_relations=1)
    negatives = sampler_of(graph, num_suspected=5000).propose(batch_of(graph.train), no_opinion)
    assert negatives.suspected is not None
    assert chisquare(torch.bincount(negatives.entity[0, 3:], minlength=50).numpy()).pvalue > 1e-3
    assert not negatives.suspected.any()
    assert negatives.known is not None
    assert negatives.known[0].equal(negatives.entity[0] == 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hard": 0}, r"generator.num_hard must be at least 1, got 0"),
        ({"num_hard": 128}, r"generator.num_hard must be below the graph's 128 entities, got 128"),
        ({"num_suspected": -1}, r"generator.num_suspected must be at least 0, got -1"),
        ({"bank_size": 2}, r"generator.bank_size must be at least 3, got 2"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)
