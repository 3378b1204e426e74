from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.nscaching import NSCachingSampler
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import batch_of, context_of, families, graph_of, no_opinion

OPTIONS: dict[str, Any] = {
    "num_negatives": 2,
    "cache_size": 5,
    "fresh_size": 9,
    "temperature": 1.0,
    "select": "importance",
    "refresh_epochs": 1,
    "max_caches": None,
    "mask_known": False,
}
QUERIES = 3000
MANY = graph_of([(0, relation, 1) for relation in range(QUERIES)], num_entities=6, num_relations=QUERIES)
PLAUSIBLE = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.2, -0.5], dtype=torch.float64)


def sampler_of(graph: KnowledgeGraph, **options: Any) -> NSCachingSampler:
    return NSCachingSampler(context_of(graph), **(OPTIONS | options))


class Opinion:
    """Scores entities alone, and remembers what it was asked."""

    def __init__(self, plausible: Tensor) -> None:
        self.plausible = plausible
        self.asked: list[Tensor] = []

    def __call__(self, entity: Tensor) -> Tensor:
        self.asked.append(entity)
        return self.plausible[entity]


def family_opinion() -> Opinion:
    return Opinion(torch.arange(families().num_entities).double().mul(0.7).sin())


def test_negatives_are_drawn_uniformly_from_the_cache_as_it_was():
    graph = graph_of([(0, 0, 1)], num_entities=1000, num_relations=1)
    sampler = sampler_of(graph, num_negatives=2000)
    cache = sampler.caches.fetch(sampler.keys.of(batch_of(graph.train)))[0]
    entity = sampler.propose(batch_of(graph.train), Opinion(torch.zeros(1000))).entity
    count = torch.bincount(entity[0], minlength=1000)
    assert int(count[cache].sum()) == 2000
    assert chisquare(count[cache].numpy()).pvalue > 1e-3


def test_each_positive_draws_from_the_cache_of_its_own_query():
    sampler = sampler_of(families(), num_negatives=100)
    batch = batch_of(families().train[:60], heads=30)
    cached = sampler.caches.fetch(sampler.keys.of(batch))
    entity = sampler.propose(batch, family_opinion()).entity
    assert all(set(drawn) == set(cache) for drawn, cache in zip(entity.tolist(), cached.tolist(), strict=True))


def test_first_caches_are_uniform_and_a_function_of_the_seed():
    first = sampler_of(MANY)
    cache = first.caches.row.clone().long()
    assert chisquare(torch.bincount(cache.flatten(), minlength=6).numpy()).pvalue > 1e-3
    assert sampler_of(MANY).caches.row.clone().long().equal(cache)
    first.propose(batch_of(MANY.train), Opinion(PLAUSIBLE))
    assert not first.caches.row.clone().long().equal(cache)
    first.start_stage()
    assert first.caches.row.clone().long().equal(cache)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_cache_keeps_what_is_drawn_without_replacement_from_the_softmax_of_scores(temperature: float):
    # 60 fresh candidates of 6 entities: every pool has them all, most many times, and no cache keeps one twice.
    sampler = sampler_of(MANY, cache_size=2, fresh_size=60, temperature=temperature)
    batch = batch_of(MANY.train)
    sampler.propose(batch, Opinion(PLAUSIBLE))
    kept = Counter(tuple(sorted(row)) for row in sampler.caches.fetch(sampler.keys.of(batch)).tolist())
    p = (PLAUSIBLE / temperature).softmax(0).tolist()
    pairs = list(combinations(range(6), 2))
    expected = [QUERIES * (p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])) for i, j in pairs]
    assert set(kept) <= set(pairs)
    assert chisquare([kept[pair] for pair in pairs], expected).pvalue > 1e-3


def test_top_keeps_the_best_of_cached_and_fresh_once_each():
    sampler, opinion = sampler_of(families(), select="top"), family_opinion()
    batch = batch_of(families().train[:200:7], heads=10)
    key = sampler.keys.of(batch)
    before = sampler.caches.fetch(key)
    sampler.propose(batch, opinion)
    (pool,) = opinion.asked
    assert pool[:, :5].equal(before)
    seen = set[int]()
    for row, cache in zip(key.tolist(), sampler.caches.fetch(key).tolist(), strict=True):
        if row not in seen:  # a later positive with the same query gave it away
            number = key.tolist().index(row)
            best = sorted(set(pool[number].tolist()), key=lambda e: -float(opinion.plausible[e]))[:5]
            assert cache == best
        seen.add(row)


def test_of_positives_with_one_query_the_first_refreshes_the_cache():
    graph = graph_of([(0, 0, tail) for tail in range(1, 5)], num_entities=1000, num_relations=1)
    sampler, opinion = sampler_of(graph, select="top"), Opinion(torch.arange(1000.0))
    batch = batch_of(graph.train)
    sampler.propose(batch, opinion)
    cache = sampler.caches.fetch(sampler.keys.of(batch))
    assert (cache == cache[0]).all()
    assert cache[0].tolist() == sorted(set(opinion.asked[0][0].tolist()), reverse=True)[:5]


def test_only_the_cache_of_the_corrupted_side_changes():
    sampler = sampler_of(families(), select="top")
    batch = batch_of(families().train[:40], heads=40)
    before = sampler.caches.row.clone()
    sampler.propose(batch, family_opinion())
    changed = sampler.caches.key[(sampler.caches.row.clone() != before).any(1)]
    assert set(changed.tolist()) <= set(sampler.keys.of(batch).tolist())
    assert not set(changed.tolist()) & set(sampler.keys.of(replace(batch, head_chunks=0)).tolist())


def test_train_facts_stay_out_of_caches_where_known_ones_are_masked():
    # Three of six entities are answers of each query, so that pools are full of them.
    graph = graph_of([(0, r, t) for r in range(300) for t in (1, 2, 4)], num_entities=6, num_relations=300)
    sampler = sampler_of(graph, cache_size=3, fresh_size=60, mask_known=True)
    batch = batch_of(graph.train)
    first = sampler.propose(batch, Opinion(PLAUSIBLE))
    assert first.known is not None
    assert first.known.equal(torch.isin(first.entity, torch.tensor([1, 2, 4])))
    assert sampler.caches.fetch(sampler.keys.of(batch)).sort(1).values.unique(dim=0).tolist() == [[0, 3, 5]]
    second = sampler.propose(batch, Opinion(PLAUSIBLE))
    assert second.known is not None
    assert not second.known.any()


def test_caches_wait_for_their_epoch():
    sampler = sampler_of(families(), refresh_epochs=3)
    before = sampler.caches.row.clone()
    for epoch in (1, 2):
        batch = batch_of(families().train[:20], epoch=epoch)
        sampler.propose(batch, no_opinion)
        assert not sampler.metrics()["generator/cache_replaced"].any()
    assert sampler.caches.row.clone().equal(before)
    sampler.propose(batch_of(families().train[:20], epoch=3), family_opinion())
    assert not sampler.caches.row.clone().equal(before)


def test_what_was_replaced_is_measured():
    sampler, opinion = sampler_of(MANY, select="top"), Opinion(PLAUSIBLE)
    batch = batch_of(MANY.train[:50])
    before = sampler.caches.fetch(sampler.keys.of(batch))
    sampler.propose(batch, opinion)
    after = sampler.caches.fetch(sampler.keys.of(batch))
    for share, old, new in zip(sampler.metrics()["generator/cache_replaced"].tolist(), before, after, strict=True):
        if len(new.unique()) == 5:
            assert share == pytest.approx(len(set(new.tolist()) - set(old.tolist())) / 5)


def test_with_fewer_caches_than_queries_a_hash_spreads_the_queries_over_them():
    sampler = sampler_of(MANY, max_caches=50, num_negatives=200)
    assert sampler.caches.row.shape == (50, 5)
    entity = sampler.propose(batch_of(MANY.train), family_opinion()).entity
    # Which caches the draws of a query came from: the first caches are a function of the seed.
    first = sampler_of(MANY, max_caches=50).caches.row.long()
    of_draws = {tuple(sorted(set(row))) for row in entity.tolist()}
    assert of_draws <= {tuple(sorted(set(row))) for row in first.tolist()}
    key = sampler._cache_of(sampler.keys.of(batch_of(MANY.train)))
    assert chisquare(torch.bincount(key, minlength=50).numpy()).pvalue > 1e-3


def test_queries_that_share_a_cache_find_what_the_other_left():
    sampler = sampler_of(MANY, max_caches=1, select="top", cache_size=1, fresh_size=60)
    sampler.propose(batch_of(MANY.train[:1]), Opinion(PLAUSIBLE))
    entity = sampler.propose(batch_of(MANY.train[7:8]), Opinion(PLAUSIBLE)).entity
    assert entity.tolist() == [[2, 2]]


def test_more_caches_than_queries_are_never_made():
    assert sampler_of(MANY, max_caches=10**9).caches.row.clone().equal(sampler_of(MANY).caches.row.clone())


@pytest.mark.parametrize("key", ["num_negatives", "cache_size", "fresh_size", "refresh_epochs", "max_caches"])
def test_nothing_of_something_is_an_error(key: str):
    with pytest.raises(InputError, match=rf"generator.{key} must be at least 1, got 0"):
        sampler_of(MANY, **{key: 0})


def test_unknown_options_are_errors():
    with pytest.raises(InputError, match=r"generator.temperature must be positive, got 0.0"):
        sampler_of(MANY, temperature=0.0)
    with pytest.raises(InputError, match=r"generator.select must be one of importance, top, got 'best'"):
        sampler_of(MANY, select="best")
