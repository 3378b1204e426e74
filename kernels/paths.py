"""Walks from the heads of queries along edges (paths.cpp).

They reach entities, choose those to go on from, and sum messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from torch import Tensor

from kernels.library import call, type_name, usable
from kernels.shapes import expect_int32, expect_shape

_BLOCK_NUMBERS = 1 << 22
"""Most numbers of messages that plain torch makes at a time."""


@dataclass(frozen=True)
class OutEdges:
    """The edges out of each entity: those out of entity e are from start[e] to start[e + 1] - 1."""

    start: Int64[Tensor, " E_plus_1"]
    target: Int32[Tensor, " M"]
    relation: Int32[Tensor, " M"]
    kept: Bool[Tensor, " M"]
    """False for an edge that is left out."""
    num_relations: int

    @property
    def num_entities(self) -> int:
        """Entities, with edges or without."""
        return len(self.start) - 1

    def degree(self, entity: Int32[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """The number of edges out of each, left out or not."""
        return self.start[entity.long() + 1] - self.start[entity.long()]


@dataclass(frozen=True)
class Nodes:
    """A node is an entity that a query has reached. Nodes are in the order in which they were reached."""

    query: Int32[Tensor, " n"]
    entity: Int32[Tensor, " n"]
    place: Int32[Tensor, "Q E"]
    """The node of each query at each entity; -1: it is not reached."""

    def part(self, which: slice | Int64[Tensor, " k"]) -> "Nodes":
        """Some of the nodes; `place` still has them all."""
        return Nodes(self.query[which], self.entity[which], self.place)


def nodes_of(edges: OutEdges, head: Int64[Tensor, " Q"]) -> Nodes:
    """One node for each query, its head."""
    entities, queries = edges.num_entities, len(head)
    expect_int32("pairs of a query and an entity", queries * entities)
    query = torch.arange(queries, dtype=torch.int32, device=head.device)
    place = torch.full((queries, entities), -1, dtype=torch.int32, device=head.device)
    place[query.long(), head] = query
    return Nodes(query, head.int(), place)


def reach(edges: OutEdges, nodes: Nodes, sources: Nodes) -> Nodes:
    """Adds the entities that one edge reaches from some of the nodes.

    Use only the result afterwards: `place` of `nodes` then has the new nodes too.

    Args:
        sources: some of `nodes`.
    """
    entities, count = edges.num_entities, len(nodes.query)
    if usable(edges.start):
        expect_shape("place", nodes.place, len(nodes.place), entities)
        most = min(int(edges.degree(sources.entity).sum()), nodes.place.numel() - count)
        query, entity = nodes.query.new_empty(most), nodes.query.new_empty(most)
        given = edges.start, edges.target, edges.kept, sources.query, sources.entity, nodes.place, query, entity
        found = call("reach", *given, len(sources.query), count, entities)
        query, entity = query[:found], entity[:found]
    else:
        node, edge = _out_of(edges, sources.entity)
        pair = sources.query[node].long() * entities + edges.target[edge]
        new = torch.unique(pair[nodes.place.view(-1)[pair] < 0])
        number = torch.arange(count, count + len(new), dtype=torch.int32, device=new.device)
        nodes.place.view(-1)[new] = number
        query, entity = (new // entities).int(), (new % entities).int()
    return Nodes(torch.cat([nodes.query, query]), torch.cat([nodes.entity, entity]), nodes.place)


def choose(edges: OutEdges, nodes: Nodes, priority: Float[Tensor, " n"], most_edges: int) -> Int64[Tensor, " k"]:
    """The numbers of the nodes to go on from, ascending: of each query, those of the highest priority.

    Nodes are taken until at least `most_edges` edges lead out of them, or none is left. Edges that a step leaves out
    count too. The last node may have many edges. Of equal priorities, the smaller entity comes first; nan comes last.
    """
    most_edges = min(most_edges, len(edges.target))
    if usable(edges.start, priority):
        queries = len(nodes.place)
        expect_shape("priority", priority, len(nodes.query))
        expect_shape("place", nodes.place, queries, edges.num_entities)
        chosen = torch.empty(len(priority), dtype=torch.bool)
        given = edges.start, nodes.query, nodes.entity, priority.contiguous(), chosen
        call(f"choose_{type_name(priority)}", *given, len(priority), queries, most_edges)
        return chosen.nonzero()[:, 0]
    order = nodes.entity.argsort(stable=True)
    for key in (priority.nan_to_num(-torch.inf, torch.inf, -torch.inf).neg(), nodes.query):
        order = order[key[order].argsort(stable=True)]
    query, degree = nodes.query[order].long(), edges.degree(nodes.entity[order])
    before = degree.cumsum(0) - degree
    # The edges out of all nodes that come before the query's first one.
    of_others = torch.full((len(nodes.place),), torch.iinfo(torch.int64).max, device=query.device)
    of_others = of_others.scatter_reduce_(0, query, before, "amin")
    return order[before - of_others[query] < most_edges].sort().values


def send(
    edges: OutEdges,
    sources: Nodes,
    group: Int64[Tensor, " Q"],
    state: Float[Tensor, "n D"],
    weight: Float[Tensor, "G R D"],
    count: int,
) -> Float[Tensor, "m D"]:
    """Sums messages: from each source, along each edge, its state times the edge's weight.

    Args:
        sources: n of the nodes.
        group: for each query, which of the G sets of weights it has.
        state: of the sources.
        weight: of the edges of each relation.
        count: the sums of the first `count` nodes are wanted.
    Returns:
        The sum of the messages into each of these nodes, in the order of the sources.
    Raises:
        ValueError: an edge leads to none of the first `count` nodes, which plain torch says in its own words, or
            sizes do not agree. So does `send_gradient`.
    """
    out = state.new_zeros((count, state.shape[1]))
    if usable(state, weight):
        _expect(edges, sources, group, state, weight, out)
        given = *_arrays(edges, sources), group, state.contiguous(), weight.contiguous(), out
        _expect_reached(call(f"send_{type_name(state)}", *given, *_sizes(edges, state, weight, out)), count)
        return out
    for source, into, of_edge in _messages(edges, sources, group, state.shape[1]):
        out.index_add_(0, into, state[source] * weight.flatten(0, 1)[of_edge])
    return out


def send_gradient(
    edges: OutEdges,
    sources: Nodes,
    group: Int64[Tensor, " Q"],
    state: Float[Tensor, "n D"],
    weight: Float[Tensor, "G R D"],
    by_out: Float[Tensor, "m D"],
) -> tuple[Float[Tensor, "n D"], Float64[Tensor, "G R D"]]:
    """The gradients by `state` and by `weight` of `send`, from that by its result; that of weights in float64."""
    by_weight = torch.zeros(weight.shape, dtype=torch.float64, device=weight.device)
    if usable(state, weight, by_out):
        _expect(edges, sources, group, state, weight, by_out)
        by_state = torch.empty_like(state, memory_format=torch.contiguous_format)
        given = group, state.contiguous(), weight.contiguous(), by_out.contiguous(), by_state, by_weight
        words = *_arrays(edges, sources), *given, *_sizes(edges, state, weight, by_out)
        _expect_reached(call(f"send_gradient_{type_name(state)}", *words), len(by_out))
        return by_state, by_weight
    by_state = torch.zeros_like(state)
    for source, into, of_edge in _messages(edges, sources, group, state.shape[1]):
        given = by_out.index_select(0, into)  # which refuses -1
        by_state.index_add_(0, source, given * weight.flatten(0, 1)[of_edge])
        by_weight.flatten(0, 1).index_add_(0, of_edge, state[source].double() * given)
    return by_state, by_weight


def _arrays(edges: OutEdges, sources: Nodes) -> tuple[Tensor, ...]:
    return edges.start, edges.target, edges.relation, edges.kept, sources.place, sources.query, sources.entity


def _sizes(edges: OutEdges, state: Tensor, weight: Tensor, out: Tensor) -> tuple[int, ...]:
    return len(state), len(out), edges.num_entities, *weight.shape[1:]


def _expect(edges: OutEdges, sources: Nodes, group: Tensor, state: Tensor, weight: Tensor, out: Tensor) -> None:
    """Raises ValueError for shapes by which a kernel would read or write beyond an array."""
    expect_shape("place", sources.place, len(group), edges.num_entities)
    expect_shape("state", state, len(sources.query), state.shape[1])
    expect_shape("weight", weight, len(weight), edges.num_relations, state.shape[1])
    expect_shape("the sums", out, len(out), state.shape[1])


def _expect_reached(all_reached: int, count: int) -> None:
    if not all_reached:
        raise ValueError(f"an edge leads to none of the {count} nodes whose sums are wanted")


def _messages(
    edges: OutEdges, sources: Nodes, group: Int64[Tensor, " Q"], width: int
) -> Iterator[tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]]:
    """For each message, some at a time: the source, the node that gets it, and its weight."""
    source, edge = _out_of(edges, sources.entity)
    size = max(1, _BLOCK_NUMBERS // max(1, width))
    for sending, along in zip(source.split(size), edge.split(size), strict=True):
        query = sources.query[sending].long()
        into = sources.place[query, edges.target[along].long()].long()
        yield sending, into, group[query] * edges.num_relations + edges.relation[along]


def _out_of(edges: OutEdges, entity: Int32[Tensor, " n"]) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]:
    """The kept edges out of some entities: for each, the place in `entity` of its source, and its number."""
    first, count = edges.start[entity.long()], edges.degree(entity)
    source = torch.arange(len(entity), device=entity.device).repeat_interleave(count)
    edge = torch.arange(len(source), device=entity.device) + (first - (count.cumsum(0) - count))[source]
    kept = edges.kept[edge]
    return source[kept], edge[kept]
