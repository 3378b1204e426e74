"""Walks along edges, against loops over queries and edges in Python; compiled and in plain torch."""

import pytest
import torch
from torch import Tensor

from kernels.paths import Nodes, OutEdges, choose, nodes_of, reach, send, send_gradient
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


def reached(edges: OutEdges, head: Tensor, length: int) -> list[Nodes]:
    """The nodes that at most 0, 1, ... edges reach."""
    found = [nodes_of(edges, head)]
    for _ in range(length):
        found.append(reach(edges, found[-1], found[-1]))
    return found


@every_way
@pytest.mark.parametrize("seed", [0, 5, 9])
def test_reached_are_the_entities_that_so_many_edges_lead_to(way: Way, seed: int):
    edges = some_edges(seed)
    expected = {(query, head) for query, head in enumerate(HEAD.tolist())}
    for nodes in (steps := way(reached, edges, HEAD, 3)):
        found = list(zip(nodes.query.tolist(), nodes.entity.tolist(), strict=True))
        assert len(found) == len(expected)
        assert set(found) == expected
        assert [int(nodes.place[pair]) for pair in found] == list(range(len(found)))
        expected = expected | {(q, t) for q, e in expected for s, _, t in listed(edges) if s == e}
    assert int((steps[-1].place >= 0).sum()) == len(steps[-1].query)


@every_way
def test_some_nodes_reach_only_what_their_edges_lead_to(way: Way):
    edges = some_edges()
    heads = nodes_of(edges, HEAD)
    found = way(reach, edges, heads, heads.part(torch.tensor([1, 2])))
    assert found.query[: len(HEAD)].equal(heads.query)
    new = set(zip(found.query[len(HEAD) :].tolist(), found.entity[len(HEAD) :].tolist(), strict=True))
    assert new == {(q, t) for q in (1, 2) for s, _, t in listed(edges) if s == HEAD[q]} - {(1, 4), (2, 0)}
    assert {query for query, _ in new} == {1, 2}


@every_way
@both_types
@pytest.mark.parametrize("most_edges", [1, 3, 10, 10**20])
def test_chosen_are_the_nodes_of_highest_priority_until_enough_edges_lead_out(
    way: Way, dtype: torch.dtype, most_edges: int
):
    edges, queries, each = some_edges(), 30, 7
    heads = integers(ENTITIES, queries, seed=3)
    others = [torch.randperm(ENTITIES, generator=torch.Generator().manual_seed(q)) for q in range(queries)]
    entity = torch.cat([heads, *(own[own != head][: each - 1] for own, head in zip(others, heads, strict=True))])
    query = torch.cat([torch.arange(queries), torch.arange(queries).repeat_interleave(each - 1)])
    place = torch.full((queries, ENTITIES), -1, dtype=torch.int32)
    place[query, entity] = torch.arange(len(query), dtype=torch.int32)
    nodes = Nodes(query.int(), entity.int(), place)
    priority = torch.tensor([-torch.inf, -1.0, -0.0, 0.0, 2.0, torch.inf, torch.nan], dtype=dtype)
    priority = priority[integers(7, len(query), seed=4)]
    expected = []
    for number in range(queries):
        own = (query == number).nonzero()[:, 0].tolist()
        own.sort(key=lambda node: (-float(priority[node].nan_to_num(-torch.inf, torch.inf, -torch.inf)), entity[node]))
        out = 0
        for node in own:
            if out < most_edges:
                expected.append(node)
                out += int(edges.degree(nodes.entity[node : node + 1]))
    assert way(choose, edges, nodes, priority, most_edges).tolist() == sorted(expected)
    assert (most_edges > 3) or len(expected) < len(query) / 2


@every_way
@both_types
def test_messages_are_summed_at_the_targets_and_differentiated(way: Way, dtype: torch.dtype):
    edges = some_edges()
    _, first, nodes = reached(edges, HEAD, 2)
    sources, count = nodes.part(torch.arange(1, len(first.query))), len(nodes.query)
    state, weight = randn(len(sources.query), 5, dtype=dtype), randn(2, RELATIONS, 5, dtype=dtype, seed=1)
    leaves = [each.double().requires_grad_() for each in (state, weight)]
    expected = [torch.zeros(5, dtype=torch.float64)] * count
    for number, (query, entity) in enumerate(zip(sources.query.tolist(), sources.entity.tolist(), strict=True)):
        for source, relation, target in listed(edges):
            if source == entity:
                into = int(nodes.place[query, target])
                expected[into] = expected[into] + leaves[0][number] * leaves[1][GROUP[query], relation]
    found = way(send, edges, sources, GROUP, state, weight, count)
    assert_close(found, torch.stack(expected).detach())
    given = randn(count, 5, dtype=dtype, seed=2)
    torch.stack(expected).backward(given.double())
    by_state, by_weight = way(send_gradient, edges, sources, GROUP, state, weight, given)
    assert by_weight.dtype == torch.float64
    for mine, leaf in zip((by_state, by_weight.to(dtype)), leaves, strict=True):
        assert leaf.grad is not None
        assert_close(mine, leaf.grad)


@every_way
def test_messages_to_missing_nodes_are_refused(way: Way):
    edges = some_edges()
    _, sources, nodes = reached(edges, HEAD, 2)
    state, weight = randn(len(sources.query), 5), randn(2, RELATIONS, 5)
    alone = nodes_of(edges, HEAD)
    for given, count in ((sources, len(nodes.query) - 1), (alone, 4)):
        sent, by_out = state[: len(given.query)], randn(count, 5)
        for walk in (
            lambda given=given, sent=sent, count=count: way(send, edges, given, GROUP, sent, weight, count),
            lambda given=given, sent=sent, by=by_out: way(send_gradient, edges, given, GROUP, sent, weight, by),
        ):
            with pytest.raises(
                (ValueError, IndexError, RuntimeError), match=r"leads to none of the \d+ nodes|out of (range|bounds)"
            ):
                walk()


@every_way
def test_no_queries_reach_nothing(way: Way):
    edges, none = some_edges(), torch.empty(0, dtype=torch.int64)
    nodes = way(reached, edges, none, 1)[1]
    assert not len(nodes.query)
    state, weight = torch.zeros(0, 5), torch.zeros(0, RELATIONS, 5)
    assert not len(way(choose, edges, nodes, state[:, 0], 5))
    assert way(send, edges, nodes, none, state, weight, 0).shape == (0, 5)
    assert way(send_gradient, edges, nodes, none, state, weight, state)[1].shape == weight.shape
