"""Scores of queries with candidate rows read directly from the table, and gradients by queries and candidates.

One program has one query, or one candidate for gradients, so that sums have one order and runs are repeatable. Rows
that several queries share are read again by each of them, from the GPU's cache. Callers have checked the shapes.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.gpu.compare import MODULUS, load_rows, over_score, pull, pull_complex, scores
from kernels.pairs import Comparison

_OTHERS, _NUMBERS = 32, 64
"""Partners and numbers of a row that a program handles at a time: as many as its registers hold."""


@triton.jit
@no_type_check
def _pair_scores(
    query, rows, place, out, size, candidates, width, KIND: tl.constexpr, N: tl.constexpr, E: tl.constexpr
):
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * N + tl.arange(0, N)
    inside = n < candidates
    row = tl.load(place + b // size * candidates + n, mask=inside, other=0)
    score = scores(query + b * width, rows, row, inside, width, KIND, N, E)
    tl.store(out + b * candidates + n, score, mask=inside)


@triton.jit
@no_type_check
def _query_gradient(
    query, rows, place, coefficient, score, out, size, candidates, width,
    KIND: tl.constexpr, N: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * E + tl.arange(0, E)
    part = width // 2 if KIND == MODULUS else width
    here = e < part
    own = tl.load(query + b * width + e, mask=here, other=0.0)
    turned_own = tl.load(query + b * width + part + e, mask=here & (KIND == MODULUS), other=0.0)
    total, turned_total = tl.zeros_like(own), tl.zeros_like(own)
    for start in range(0, candidates, N):
        n = start + tl.arange(0, N)
        inside = n < candidates
        row = tl.load(place + b // size * candidates + n, mask=inside, other=0)
        given = tl.load(coefficient + b * candidates + n, mask=inside, other=0.0)
        factor = over_score(given, tl.load(score + b * candidates + n, mask=inside, other=1.0), KIND)
        other = load_rows(rows, row, inside, e, here, width)
        if KIND == MODULUS:
            turned_other = load_rows(rows, row, inside, part + e, here, width)
            by_real, by_imaginary = pull_complex(own[None, :], turned_own[None, :], other, turned_other, factor)
            total += by_real
            turned_total += by_imaginary
        else:
            total += pull(own[None, :], other, factor, KIND)
    tl.store(out + b * width + e, total, mask=here)
    tl.store(out + b * width + part + e, turned_total, mask=here & (KIND == MODULUS))


@triton.jit
@no_type_check
def _candidate_gradient(
    query, rows, place, coefficient, score, out, size, candidates, width,
    KIND: tl.constexpr, S: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0).to(tl.int64)
    chunk, n = k // candidates, k % candidates
    e = tl.program_id(1) * E + tl.arange(0, E)
    part = width // 2 if KIND == MODULUS else width
    here = e < part
    row = tl.load(place + k)
    own = tl.load(rows + row * width + e, mask=here, other=0.0)
    turned_own = tl.load(rows + row * width + part + e, mask=here & (KIND == MODULUS), other=0.0)
    total, turned_total = tl.zeros_like(own), tl.zeros_like(own)
    for start in range(0, size, S):
        s = start + tl.arange(0, S)
        inside = s < size
        b = chunk * size + s
        given = tl.load(coefficient + b * candidates + n, mask=inside, other=0.0)
        factor = over_score(given, tl.load(score + b * candidates + n, mask=inside, other=1.0), KIND)
        other = load_rows(query, b, inside, e, here, width)
        if KIND == MODULUS:
            turned_other = load_rows(query, b, inside, part + e, here, width)
            by_real, by_imaginary = pull_complex(own[None, :], turned_own[None, :], other, turned_other, factor)
            total += by_real
            turned_total += by_imaginary
        else:
            total += pull(own[None, :], other, factor, KIND)
    tl.store(out + k * width + e, total, mask=here)
    tl.store(out + k * width + part + e, turned_total, mask=here & (KIND == MODULUS))


def pair_scores(
    kind: Comparison, query: Float[Tensor, "B E"], rows: Float[Tensor, "U E"], place: Int64[Tensor, "C N"]
) -> Float[Tensor, "B N"]:
    """The scores of each query with rows[place] of its chunk; the B queries form C equal chunks."""
    (chunks, candidates), (queries, width) = place.shape, query.shape
    out = query.new_empty((queries, candidates))
    if out.numel():
        grid = queries, triton.cdiv(candidates, _OTHERS)
        options = {"KIND": kind.number, "N": _OTHERS, "E": _NUMBERS // 2}
        _pair_scores[grid](query, rows, place, out, queries // chunks, candidates, width, **options)
    return out


def query_gradient(
    kind: Comparison,
    query: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, "C N"],
    coefficient: Float[Tensor, "B N"],
    score: Float[Tensor, "B N"],
) -> Float[Tensor, "B E"]:
    """The gradient by each query of the sum of coefficient * score."""
    out = torch.empty_like(query)
    if out.numel():
        options = {"KIND": kind.number, "N": _OTHERS, "E": _NUMBERS}
        sizes = len(query) // len(place), place.shape[1], query.shape[1]
        _query_gradient[len(query), _parts(kind, query)](query, rows, place, coefficient, score, out, *sizes, **options)
    return out


def candidate_gradient(
    kind: Comparison,
    query: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, "C N"],
    coefficient: Float[Tensor, "B N"],
    score: Float[Tensor, "B N"],
) -> Float[Tensor, "C N E"]:
    """The gradient by each candidate, from the queries of its chunk, of the sum of coefficient * score."""
    out = query.new_empty((*place.shape, query.shape[1]))
    if out.numel():
        size = len(query) // len(place)
        options = {"KIND": kind.number, "S": min(_OTHERS, max(triton.next_power_of_2(size), 1)), "E": _NUMBERS}
        sizes = size, place.shape[1], query.shape[1]
        grid = place.numel(), _parts(kind, query)
        _candidate_gradient[grid](query, rows, place, coefficient, score, out, *sizes, **options)
    return out


def _parts(kind: Comparison, query: Tensor) -> int:
    """Programs that share the numbers of a row; those of complex rows handle both parts of a number."""
    numbers = query.shape[1] // 2 if kind == Comparison.MODULUS else query.shape[1]
    return triton.cdiv(numbers, _NUMBERS)
