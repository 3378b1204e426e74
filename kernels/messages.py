"""Sums of messages along edges, and their gradients (messages.cpp): no tensor of all messages is ever made."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor

from kernels.library import call, type_name, usable
from kernels.rows import group_rows
from kernels.shapes import expect_shape

_BLOCK_NUMBERS = 1 << 18
"""Numbers of messages that plain torch makes at a time, so few that they stay in the processor's cache."""


@dataclass(frozen=True)
class Message:
    """How the rows of an edge's source and of its relation become its message."""

    kernel: str | None
    """The name of the kernels that make it; None: there are none, and plain torch is used."""
    make: Callable[[Tensor, Tensor], Tensor]
    """The messages [n, M] of n edges, from rows [n, D] of their sources and [n, W] of their relations."""


def _beside(rows: Float[Tensor, "n D"], weight: Float[Tensor, "n W"]) -> Float[Tensor, "n WD"]:
    return (weight[:, :, None] * rows[:, None, :]).flatten(1)


SUM = Message("add", torch.add)
DIFFERENCE = Message("sub", torch.sub)
PRODUCT = Message("mult", torch.mul)
CORRELATION = Message("corr", lambda rows, relations: rows.conj() * relations)
"""Of Fourier transforms: that of the circular correlation."""
BASES = Message("bases", _beside)
"""The source's row once for each number of the relation's row, times this number."""


@dataclass(frozen=True)
class MessageEdges:
    """The edges along which messages are sent, and the sums that they go into."""

    source: Int64[Tensor, " M"]
    relation: Int64[Tensor, " M"]
    into: Int64[Tensor, " M"]
    num_sums: int
    width: int
    """Numbers of a message."""


def sum_messages(
    message: Message,
    edges: MessageEdges,
    sources: Inexact[Tensor, "U D"],
    relations: Inexact[Tensor, "R W"],
    weight: Float[Tensor, "M H"],
) -> Inexact[Tensor, "S width"]:
    """For each sum, the sum of the weighted messages that go into it, in the order of the edges.

    Args:
        relations: rounded to the type of `sources` when used.
        weight: H factors of each message, one for each of H equal parts of it.
    """
    rounded = relations.to(sources.dtype)
    total = sources.new_zeros((edges.num_sums, edges.width))
    if not _compiled(message, sources):
        for block in _blocks(edges):
            rows, of_relation = sources[edges.source[block]], rounded[edges.relation[block]]
            total.index_add_(0, edges.into[block], _weighted(message.make(rows, of_relation), weight[block]))
        return total
    _expect(message, edges, sources, relations, weight, total)
    x, r, out = _numbers(sources), _numbers(rounded), _numbers(total)
    given = x, r, weight.contiguous(), edges.source, edges.relation, *_groups(edges.into, edges.num_sums)
    call(_name("sum_messages", message, x), *given, *_sizes(x, r, weight), out, torch.get_num_threads())
    return total


def message_gradients(
    message: Message,
    edges: MessageEdges,
    sources: Inexact[Tensor, "U D"],
    relations: Inexact[Tensor, "R W"],
    weight: Float[Tensor, "M H"],
    given: Inexact[Tensor, "S width"],
    *,
    by_weight: bool,
) -> tuple[Inexact[Tensor, "U D"], Inexact[Tensor, "R W"], Float[Tensor, "M H"] | None]:
    """The gradients of `sum_messages` by sources, by relations, and by weights if wanted; from `given`, that by sums.

    The gradient by relations is summed in the type of `relations`: many edges have the same one.
    """
    by_source, by_relation = torch.zeros_like(sources), torch.zeros_like(relations)
    of_weight = torch.zeros_like(weight) if by_weight else None
    rounded = relations.to(sources.dtype)
    has_kernel = not by_weight or message in (SUM, DIFFERENCE, PRODUCT)
    if not has_kernel or relations.dtype not in (torch.float64, torch.complex128) or not _compiled(message, sources):
        _plain_gradients(message, edges, (sources, rounded, weight), given, by_source, by_relation, of_weight)
        return by_source, by_relation, of_weight
    _expect(message, edges, sources, relations, weight, given)
    x, r, w, g = _numbers(sources), _numbers(rounded), weight.contiguous(), _numbers(given)
    sizes, threads = _sizes(x, r, weight), torch.get_num_threads()
    by = *_groups(edges.source, len(x)), *sizes, _numbers(by_source), threads
    call(_name("messages_by_source", message, x), g, r, w, edges.into, edges.relation, *by)
    by = *_groups(edges.relation, len(r)), *sizes, _numbers(by_relation), threads
    call(_name("messages_by_relation", message, x), g, x, w, edges.into, edges.source, *by)
    if of_weight is not None:
        places = edges.into, edges.source, edges.relation, len(edges.into)
        call(_name("messages_by_weight", message, x), g, x, r, *places, x.shape[1], weight.shape[1], of_weight, threads)
    return by_source, by_relation, of_weight


def _plain_gradients(
    message: Message,
    edges: MessageEdges,
    used: tuple[Tensor, Tensor, Tensor],
    given: Tensor,
    by_source: Tensor,
    by_relation: Tensor,
    by_weight: Tensor | None,
) -> None:
    sources, rounded, weight = used
    for block in _blocks(edges):
        source, relation = edges.source[block], edges.relation[block]
        of_sum = given[edges.into[block]]
        with torch.enable_grad():
            rows, of_relation = sources[source].requires_grad_(), rounded[relation].requires_grad_()
            made = message.make(rows, of_relation)
        parts = torch.autograd.grad(made, (rows, of_relation), _weighted(of_sum, weight[block]))
        by_source.index_add_(0, source, parts[0])
        by_relation.index_add_(0, relation, parts[1].to(by_relation.dtype))
        if by_weight is not None:
            by_weight[block] = (of_sum * made.detach()).view(len(made), weight.shape[1], -1).sum(2)


def _compiled(message: Message, sources: Tensor) -> bool:
    return message.kernel is not None and usable(torch.view_as_real(sources) if sources.is_complex() else sources)


def _name(kernel: str, message: Message, numbers: Tensor) -> str:
    return f"{kernel}_{message.kernel}_{type_name(numbers)}"


def _numbers(rows: Inexact[Tensor, "K D"]) -> Float[Tensor, "K D2"]:
    """Complex rows as pairs of real numbers. A contiguous tensor's own memory, so that a kernel can write to it."""
    rows = rows.resolve_conj().contiguous()
    return torch.view_as_real(rows).flatten(1) if rows.is_complex() else rows


def _sizes(x: Tensor, r: Tensor, weight: Tensor) -> tuple[int, int, int]:
    return x.shape[1], r.shape[1], weight.shape[1]


def _groups(place: Int64[Tensor, " M"], count: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """The edges grouped by where a sum is; an IndexError if a place is none of `count`."""
    row, order, begin = group_rows(place, count)
    return row, order, begin, len(row)


def _expect(
    message: Message, edges: MessageEdges, sources: Tensor, relations: Tensor, weight: Tensor, sums: Tensor
) -> None:
    """Raises ValueError for shapes by which a kernel would read or write beyond an array, IndexError for places."""
    count, width, parts = len(edges.into), sources.shape[1], weight.shape[1]
    of_relation = relations.shape[1] if message is BASES else width
    expect_shape("edges.source", edges.source, count)
    expect_shape("edges.relation", edges.relation, count)
    expect_shape("weight", weight, count, parts)
    expect_shape("relations", relations, len(relations), of_relation)
    expect_shape("sums", sums, edges.num_sums, width * of_relation if message is BASES else width)
    if width % parts or (parts > 1 and message in (BASES, CORRELATION)):
        raise ValueError(f"{parts} equal parts of messages of {width} numbers: not with this message")
    for name, place, rows in (("source", edges.source, sources), ("relation", edges.relation, relations)):
        if count and not 0 <= int(place.min()) <= int(place.max()) < len(rows):
            raise IndexError(f"edges.{name} has a place that is none of {len(rows)} rows")


def _blocks(edges: MessageEdges) -> list[slice]:
    size = max(1, _BLOCK_NUMBERS // max(1, edges.width))
    return [slice(start, start + size) for start in range(0, len(edges.into), size)]


def _weighted(message: Inexact[Tensor, "n M"], weight: Float[Tensor, "n H"]) -> Inexact[Tensor, "n M"]:
    """Each of the H equal parts of a message, multiplied by its factor."""
    if weight.shape[1] == 1:
        return message * weight
    return (message.view(len(message), weight.shape[1], -1) * weight[:, :, None]).view_as(message)
