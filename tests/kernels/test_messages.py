"""Sums of messages along edges and their gradients, against a loop over edges; compiled and in plain torch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels.messages import (
    BASES,
    CORRELATION,
    DIFFERENCE,
    PRODUCT,
    SUM,
    Message,
    MessageEdges,
    message_gradients,
    sum_messages,
)
from tests.kernels.arrays import TOLERANCE, Way, assert_close, both_types, every_way, integers, randn

SOURCES, RELATIONS, SUMS, EDGES = 6, 4, 5, 70
KINDS = {"sum": SUM, "difference": DIFFERENCE, "product": PRODUCT, "correlation": CORRELATION, "bases": BASES}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def some_edges(width: int) -> MessageEdges:
    """In no order, and none into the last sum."""
    places = integers(SOURCES, EDGES), integers(RELATIONS, EDGES, seed=1), integers(SUMS - 1, EDGES, seed=2)
    return MessageEdges(*places, SUMS, width)


def some_rows(kind: Message, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    numbers = 3 if kind is BASES else width
    sources, relations = randn(SOURCES, width, dtype=dtype), randn(RELATIONS, numbers, dtype=torch.float64, seed=1)
    if kind is CORRELATION:
        other = randn(SOURCES, width, dtype=dtype, seed=2), randn(RELATIONS, width, dtype=torch.float64, seed=3)
        return torch.complex(sources, other[0]), torch.complex(relations, other[1])
    return sources, relations


def message_of(kind: Message, x: Tensor, r: Tensor) -> Tensor:
    """By the words of messages.py, for one edge."""
    if kind is BASES:
        return torch.cat([number * x for number in r])
    if kind is CORRELATION:
        return x.conj() * r
    return x + r if kind is SUM else x - r if kind is DIFFERENCE else x * r


def looped(kind: Message, edges: MessageEdges, x: Tensor, r: Tensor, weight: Tensor) -> Tensor:
    sums: list[Tensor] = [torch.zeros(edges.width, dtype=x.dtype)] * edges.num_sums
    for edge in range(len(edges.into)):
        message = message_of(kind, x[edges.source[edge]], r[edges.relation[edge]])
        factor = weight[edge].repeat_interleave(edges.width // weight.shape[1])
        sums[edges.into[edge]] = sums[edges.into[edge]] + message * factor
    return torch.stack(sums)


@every_way
@every_kind
@both_types
@pytest.mark.parametrize("width", [1, 8, 19])
@pytest.mark.parametrize("parts", [1, 0])
def test_messages_are_summed_and_differentiated(way: Way, kind: Message, dtype: torch.dtype, width: int, parts: int):
    if parts == 0 and kind in (CORRELATION, BASES):
        pytest.skip("their messages have one weight")
    sources, relations = some_rows(kind, width, dtype)
    edges = some_edges(width * 3 if kind is BASES else width)
    weight = randn(EDGES, parts or width, dtype=dtype, seed=4)  # 0: one for each number
    upstream = randn(SUMS, edges.width, dtype=dtype, seed=5)
    if kind is CORRELATION:
        upstream = torch.complex(upstream, upstream.flip(0))
    by_weight = kind in (SUM, DIFFERENCE, PRODUCT)

    wide = sources.to(relations.dtype).requires_grad_(), relations.clone().requires_grad_(), weight.double()
    expected = looped(kind, edges, wide[0], wide[1], wide[2].requires_grad_())
    expected.backward(upstream.to(expected.dtype))

    found = way(sum_messages, kind, edges, sources, relations, weight)
    gradients = way(message_gradients, kind, edges, sources, relations, weight, upstream, by_weight=by_weight)
    assert found.dtype == sources.dtype
    assert [None if each is None else each.dtype for each in gradients] == [
        sources.dtype,
        relations.dtype,
        dtype if by_weight else None,
    ]
    assert not found[-1].any()
    for one, other in zip((found, *gradients), (expected, *(each.grad for each in wide)), strict=True):
        if one is not None:
            assert other is not None
            assert_close(_real(one.detach()), _real(other.detach()), TOLERANCE[dtype])


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


@pytest.mark.usefixtures("compiled")
def test_threads_change_no_bit():
    sources, relations = some_rows(PRODUCT, 19, torch.float64)
    edges, weight, upstream = some_edges(19), randn(EDGES, 1, seed=4), randn(SUMS, 19, seed=5)
    before = torch.get_num_threads()
    found: list[tuple[Tensor, ...]] = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made = message_gradients(PRODUCT, edges, sources, relations, weight, upstream, by_weight=False)
        found.append((sum_messages(PRODUCT, edges, sources, relations, weight), *made[:2]))
    torch.set_num_threads(before)
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_without_edges_sums_are_zero():
    none = torch.empty(0, dtype=torch.int64)
    edges = MessageEdges(none, none, none, SUMS, 8)
    sources, relations = some_rows(PRODUCT, 8, torch.float64)
    assert not sum_messages(PRODUCT, edges, sources, relations, torch.empty(0, 1, dtype=torch.float64)).any()
    made = message_gradients(
        PRODUCT, edges, sources, relations, torch.empty(0, 1, dtype=torch.float64), randn(SUMS, 8), by_weight=True
    )
    assert not any(each is None or each.any() for each in made)


@pytest.mark.parametrize("name", ["source", "relation", "into"])
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_places_that_are_none_are_refused(name: str, wrong: int):
    edges = some_edges(8)
    place = getattr(edges, name).clone()
    place[7] = wrong
    sources, relations = some_rows(PRODUCT, 8, torch.float64)
    with pytest.raises(IndexError):
        sum_messages(PRODUCT, replace(edges, **{name: place}), sources, relations, randn(EDGES, 1))


def test_shapes_that_do_not_fit_are_refused():
    sources, relations = some_rows(PRODUCT, 8, torch.float64)
    with pytest.raises(ValueError, match=r"^relations must have shape \[4, 8\], got \[4, 7\]$"):
        sum_messages(PRODUCT, some_edges(8), sources, relations[:, :7], randn(EDGES, 1))
    with pytest.raises(ValueError, match=r"^weight must have shape \[70, 1\], got \[69, 1\]$"):
        sum_messages(PRODUCT, some_edges(8), sources, relations, randn(EDGES - 1, 1))
    with pytest.raises(ValueError, match=r"^3 equal parts of messages of 8 numbers: not with this message$"):
        sum_messages(PRODUCT, some_edges(8), sources, relations, randn(EDGES, 3))
