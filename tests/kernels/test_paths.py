"""Walks along edges, against loops over queries and edges in Python; compiled and in plain torch."""

import pytest
import torch

from kernels.paths import OutEdges, reach, send, send_gradient
from tests.kernels.arrays import Way, assert_close, both_types, every_way, integers, randn

ENTITIES, RELATIONS = 9, 3
HEAD, GROUP = torch.tensor([0, 4, 0, 8]), torch.tensor([1, 0, 0, 1])


def some_edges(seed: int = 0) -> OutEdges:
    """14 edges among entities 0 to 7, two of them left out; entity 8 has none."""
    source, target = integers(8, 14, seed=seed).sort().values, integers(8, 14, seed=seed + 1)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(source, minlength=ENTITIES).cumsum(0)])
    kept = torch.ones(14, dtype=torch.bool)
    kept[[3, 9]] = False
    return OutEdges(start, target.int(), integers(RELATIONS, 14, seed=2).int(), kept, RELATIONS)


def listed(edges: OutEdges) -> list[tuple[int, int, int]]:
    """(source, relation, target) of each edge that is not left out."""
    source = torch.arange(ENTITIES).repeat_interleave(edges.start.diff())
    rows = torch.stack([source, edges.relation.long(), edges.target.long()], dim=1)[edges.kept]
    return [tuple(row) for row in rows.tolist()]


@every_way
@pytest.mark.parametrize("seed", [0, 5, 9])
def test_reached_are_the_entities_that_so_many_edges_lead_to(way: Way, seed: int):
    edges = some_edges(seed)
    nodes = way(reach, edges, HEAD, 3)
    found = list(zip(nodes.query.tolist(), nodes.entity.tolist(), strict=True))
    expected = {(query, head) for query, head in enumerate(HEAD.tolist())}
    for end in nodes.ends:
        assert len(found[:end]) == len(expected)
        assert set(found[:end]) == expected
        expected = expected | {(q, t) for q, e in expected for s, _, t in listed(edges) if s == e}
    assert [int(nodes.place[pair]) for pair in found] == list(range(len(found)))
    assert int((nodes.place >= 0).sum()) == len(found)


@every_way
@both_types
def test_messages_are_summed_at_the_targets_and_differentiated(way: Way, dtype: torch.dtype):
    edges = some_edges()
    nodes = reach(edges, HEAD, 2)
    count = nodes.ends[1]
    state, weight = randn(count, 5, dtype=dtype), randn(2, RELATIONS, 5, dtype=dtype, seed=1)
    leaves = [each.double().requires_grad_() for each in (state, weight)]
    expected = [torch.zeros(5, dtype=torch.float64)] * nodes.ends[2]
    for node in range(count):
        query, entity = int(nodes.query[node]), int(nodes.entity[node])
        for source, relation, target in listed(edges):
            if source == entity:
                into = int(nodes.place[query, target])
                expected[into] = expected[into] + leaves[0][node] * leaves[1][GROUP[query], relation]
    found = way(send, edges, nodes, GROUP, state, weight, nodes.ends[2])
    assert_close(found, torch.stack(expected).detach())
    given = randn(nodes.ends[2], 5, dtype=dtype, seed=2)
    torch.stack(expected).backward(given.double())
    by_state, by_weight = way(send_gradient, edges, nodes, GROUP, state, weight, given)
    assert by_weight.dtype == torch.float64
    for mine, leaf in zip((by_state, by_weight.to(dtype)), leaves, strict=True):
        assert leaf.grad is not None
        assert_close(mine, leaf.grad)


def test_no_queries_reach_nothing():
    edges, none = some_edges(), torch.empty(0, dtype=torch.int64)
    nodes = reach(edges, none, 3)
    assert nodes.ends == (0, 0, 0, 0)
    state, weight = torch.zeros(0, 5), torch.zeros(0, RELATIONS, 5)
    assert send(edges, nodes, none, state, weight, 0).shape == (0, 5)
    assert send_gradient(edges, nodes, none, state, weight, state)[1].shape == weight.shape
