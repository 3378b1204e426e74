"""False triples for classification: one for each true one, of the relation's own entities, and no known fact."""

import torch

from graph.corruption import corrupt_each
from graph.known import KnownTriples
from graph.statistics import RelationStatistics
from tests.worlds import families, graph_of

GRAPH = families()


def corrupt(triples: torch.Tensor, seed: int = 0, facts: torch.Tensor | None = None):
    facts = torch.cat([GRAPH.train, GRAPH.valid, GRAPH.test]) if facts is None else facts
    statistics = RelationStatistics.of(GRAPH.train, GRAPH.num_entities, GRAPH.num_relations)
    return corrupt_each(triples, statistics, KnownTriples.of(facts, GRAPH.num_entities, GRAPH.num_relations), seed)


def test_replaces_one_side_by_an_entity_of_the_relation():
    facts = torch.cat([GRAPH.train, GRAPH.valid, GRAPH.test])
    known = set(map(tuple, facts.tolist()))
    heads = {(h, r) for h, r, _ in GRAPH.train.tolist()}
    tails = {(r, t) for _, r, t in GRAPH.train.tolist()}
    false, without = corrupt(GRAPH.test)
    assert without == 0
    corrupted_heads = 0
    for (h, r, t), (head, relation, tail) in zip(GRAPH.test.tolist(), false.tolist(), strict=True):
        assert (head, relation, tail) not in known
        assert relation == r
        assert (head != h) + (tail != t) == 1
        corrupted_heads += head != h
        assert (head, r) in heads if head != h else (r, tail) in tails
    assert 0.3 < corrupted_heads / len(false) < 0.7


def test_is_a_function_of_the_seed():
    assert corrupt(GRAPH.test)[0].equal(corrupt(GRAPH.test)[0])
    assert not corrupt(GRAPH.test)[0].equal(corrupt(GRAPH.test, seed=1)[0])


def test_takes_any_entity_where_the_relation_has_none_left_and_says_where_there_is_none():
    graph = graph_of([(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 1, 0), (0, 1, 1)], num_entities=2, num_relations=2)
    statistics = RelationStatistics.of(graph.train, 2, 2)
    known = KnownTriples.of(graph.train, 2, 2)
    false, without = corrupt_each(graph.train[:2].long(), statistics, known, 0)
    assert without == 1  # of relation 1 everything is true
    assert false.tolist() in ([[1, 0, 0]], [[0, 0, 1]])
