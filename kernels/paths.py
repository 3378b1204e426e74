"""Walks from the heads of queries along edges: which entities are reached, and sums of messages (paths.cpp)."""

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


@dataclass(frozen=True)
class Nodes:
    """The entities that each query has reached, in the order in which they are; an entity of a query is a node."""

    query: Int32[Tensor, " n"]
    entity: Int32[Tensor, " n"]
    place: Int32[Tensor, "Q E"]
    """The node of each query at each entity; -1: it is not reached."""
    ends: tuple[int, ...]
    """How many nodes at most 0, 1, 2, ... edges reach: those of fewer edges come first."""


def reach(edges: OutEdges, head: Int64[Tensor, " Q"], length: int) -> Nodes:
    """The entities that at most `length` edges reach from each query's head."""
    entities, queries = edges.num_entities, len(head)
    expect_int32("pairs of a query and an entity", queries * entities)
    number = torch.arange(queries, dtype=torch.int32, device=head.device)
    place = torch.full((queries, entities), -1, dtype=torch.int32, device=head.device)
    place[number.long(), head] = number
    query, entity, ends = number, head.int(), [0, queries]
    compiled = usable(edges.start)
    if compiled:  # room for all that there can be
        room = query.new_empty(queries * entities - queries)
        query, entity = torch.cat([query, room]), torch.cat([entity, room])
    for _ in range(length):
        first, count = ends[-2:]
        if compiled:
            given = edges.start, edges.target, edges.kept, place, query, entity
            ends.append(call("reach", *given, first, count, entities))
            continue
        node, edge = _out_of(edges, entity[first:count])
        pair = query[first:count][node].long() * entities + edges.target[edge]
        new = torch.unique(pair[place.view(-1)[pair] < 0])
        place.view(-1)[new] = torch.arange(count, count + len(new), dtype=torch.int32, device=new.device)
        query, entity = torch.cat([query, (new // entities).int()]), torch.cat([entity, (new % entities).int()])
        ends.append(len(query))
    # Copied, so that the room that was not needed is free again.
    return Nodes(query[: ends[-1]].clone(), entity[: ends[-1]].clone(), place, tuple(ends[1:]))


def send(
    edges: OutEdges,
    nodes: Nodes,
    group: Int64[Tensor, " Q"],
    state: Float[Tensor, "n D"],
    weight: Float[Tensor, "G R D"],
    count: int,
) -> Float[Tensor, "m D"]:
    """Sums messages: from each of the first n nodes, along each edge, its state times the edge's weight.

    Args:
        group: for each query, which of the G sets of weights it has.
        state: of the first n nodes.
        weight: of the edges of each relation.
        count: the sums of the first `count` nodes are wanted: at least those that edges from the first n nodes reach.
    Returns:
        The sum of the messages into each of these nodes, in the order of the edges' sources.
    """
    out = state.new_zeros((count, state.shape[1]))
    if usable(state, weight):
        _expect(edges, nodes, group, state, weight, out)
        given = *_arrays(edges, nodes), group, state.contiguous(), weight.contiguous(), out
        call(f"send_{type_name(state)}", *given, len(state), edges.num_entities, *weight.shape[1:])
        return out
    for source, into, of_edge in _messages(edges, nodes, group, *state.shape):
        out.index_add_(0, into, state[source] * weight.flatten(0, 1)[of_edge])
    return out


def send_gradient(
    edges: OutEdges,
    nodes: Nodes,
    group: Int64[Tensor, " Q"],
    state: Float[Tensor, "n D"],
    weight: Float[Tensor, "G R D"],
    by_out: Float[Tensor, "m D"],
) -> tuple[Float[Tensor, "n D"], Float64[Tensor, "G R D"]]:
    """The gradients by `state` and by `weight` of `send`, from that by its result; that of weights in float64."""
    by_weight = torch.zeros(weight.shape, dtype=torch.float64, device=weight.device)
    if usable(state, weight, by_out):
        _expect(edges, nodes, group, state, weight, by_out)
        by_state = torch.empty_like(state, memory_format=torch.contiguous_format)
        given = group, state.contiguous(), weight.contiguous(), by_out.contiguous(), by_state, by_weight
        sizes = len(state), edges.num_entities, *weight.shape[1:]
        call(f"send_gradient_{type_name(state)}", *_arrays(edges, nodes), *given, *sizes)
        return by_state, by_weight
    by_state = torch.zeros_like(state)
    for source, into, of_edge in _messages(edges, nodes, group, *state.shape):
        given = by_out[into]
        by_state.index_add_(0, source, given * weight.flatten(0, 1)[of_edge])
        by_weight.flatten(0, 1).index_add_(0, of_edge, state[source].double() * given)
    return by_state, by_weight


def _arrays(edges: OutEdges, nodes: Nodes) -> tuple[Tensor, ...]:
    return edges.start, edges.target, edges.relation, edges.kept, nodes.place, nodes.query, nodes.entity


def _expect(edges: OutEdges, nodes: Nodes, group: Tensor, state: Tensor, weight: Tensor, out: Tensor) -> None:
    """Raises ValueError for shapes by which a kernel would read or write beyond an array."""
    expect_shape("place", nodes.place, len(group), edges.num_entities)
    expect_shape("weight", weight, len(weight), edges.num_relations, state.shape[1])
    expect_shape("the sums", out, len(out), state.shape[1])
    reached = next((end for end, before in zip(nodes.ends[1:], nodes.ends, strict=False) if before >= len(state)), None)
    if reached is None or len(out) < reached:
        raise ValueError(f"{len(state)} nodes send to more than the {len(out)} whose sums are wanted")


def _messages(
    edges: OutEdges, nodes: Nodes, group: Int64[Tensor, " Q"], count: int, width: int
) -> Iterator[tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]]:
    """For each message of the first `count` nodes, some at a time: the nodes that send and get it, and its weight."""
    source, edge = _out_of(edges, nodes.entity[:count])
    size = max(1, _BLOCK_NUMBERS // max(1, width))
    for sending, along in zip(source.split(size), edge.split(size), strict=True):
        query = nodes.query[sending].long()
        into = nodes.place[query, edges.target[along].long()].long()
        yield sending, into, group[query] * edges.num_relations + edges.relation[along]


def _out_of(edges: OutEdges, entity: Int32[Tensor, " n"]) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]:
    """The kept edges out of some entities: for each, the place in `entity` of its source, and its number."""
    first = edges.start[entity.long()]
    count = edges.start[entity.long() + 1] - first
    source = torch.arange(len(entity), device=entity.device).repeat_interleave(count)
    edge = torch.arange(len(source), device=entity.device) + (first - (count.cumsum(0) - count))[source]
    kept = edges.kept[edge]
    return source[kept], edge[kept]
