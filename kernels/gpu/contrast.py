"""Scores queries against shared pools and computes the loss and its gradients. All four comparisons are handled.

Dot products are torch's matrix products, and one program for each query makes the loss and its slopes from the scores.
Distances have no such products: there one program for each query reads its pool, computes scores, loss and the query's
gradient, and a second kernel sums the gradients of the candidates.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from kernels.contrast import Contrast
from kernels.gpu.compare import DOT, MODULUS, load_rows, over_score, pull, pull_complex, scores
from kernels.gpu.numbers import bits, number
from kernels.gpu.pairs import candidate_gradient
from kernels.losses import RowLoss
from kernels.pairs import Comparison
from kernels.precision import Precision, lowered, multiplied

_BLOCK = 2048
"""Numbers of rows that a program handles at a time: as many as its registers hold."""
_NUMBERS_OF_ONE = 128
"""Of one row."""


@triton.jit
@no_type_check
def _softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
@no_type_check
def _sigmoid(x):
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
@no_type_check
def _softmax(score, counts, truth):
    """The loss, and its slopes by each negative's score and by the positive's."""
    top = tl.maximum(tl.max(tl.where(counts, score, -float("inf")), 0), truth)
    power = tl.where(counts, tl.exp(score - top), 0.0)
    true_power = tl.exp(truth - top)
    total = tl.sum(power, 0) + true_power
    return tl.log(total) + (top - truth), power / total, true_power / total - 1.0


@triton.jit
@no_type_check
def _self_adversarial(score, counts, truth, margin, temperature):
    """The same."""
    logit = temperature * score
    top = tl.max(tl.where(counts, logit, -float("inf")), 0)
    power = tl.where(counts, tl.exp(logit - top), 0.0)
    # Where all negatives are known, no share has weight.
    total = tl.sum(power, 0)
    share = power / tl.where(total == 0, 1.0, total)
    loss = _softplus(-margin - truth) + tl.sum(share * _softplus(margin + score), 0)
    return loss, share * _sigmoid(margin + score), -_sigmoid(-margin - truth)


@triton.jit
@no_type_check
def _store_query_gradient(
    query, rows, row, inside, factor, true_row, true_factor, out, width,
    KIND: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """From the candidates and the target of one query."""
    one = tl.arange(0, 1) == 0
    part = width // 2 if KIND == MODULUS else width
    for start in range(0, part, E):
        e = start + tl.arange(0, E)
        here = e < part
        own = tl.load(query + e, mask=here, other=0.0)[None, :]
        other = load_rows(rows, row, inside, e, here, width)
        answer = load_rows(rows, true_row, one, e, here, width)
        if KIND == MODULUS:
            turned_own = tl.load(query + part + e, mask=here, other=0.0)[None, :]
            turned_other = load_rows(rows, row, inside, part + e, here, width)
            turned_answer = load_rows(rows, true_row, one, part + e, here, width)
            by_real, by_imaginary = pull_complex(own, turned_own, other, turned_other, factor)
            from_real, from_imaginary = pull_complex(own, turned_own, answer, turned_answer, true_factor)
            tl.store(out + e, by_real + from_real, mask=here)
            tl.store(out + part + e, by_imaginary + from_imaginary, mask=here)
        else:
            both = pull(own, other, factor, KIND) + pull(own, answer, true_factor, KIND)
            tl.store(out + e, both, mask=here)


@triton.jit
@no_type_check
def _truth(query, rows, target, b, width, KIND: tl.constexpr, E: tl.constexpr):
    """The row of the target of query b, as a block of one, and its score."""
    one = tl.arange(0, 1)
    row = tl.load(target + b + one)
    return row, tl.sum(scores(query + b * width, rows, row, one == 0, width, KIND, 1, E), 0)


@triton.jit
@no_type_check
def _losses(
    b, score, truth, inside, known, weight, positive, losses, by_positive, coefficient,
    candidates, margin, temperature, SOFTMAX: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Stores what is made of the scores of query b; returns its slopes by the negatives' scores and the positive's."""
    n = tl.arange(0, score.shape[0])
    counts = inside
    if MASKED:
        counts = inside & (tl.load(known + b * candidates + n, mask=inside, other=1) == 0)
    if SOFTMAX:
        loss, slope, true_slope = _softmax(score, counts, truth)
    else:
        given = number(margin, score), number(temperature, score)
        loss, slope, true_slope = _self_adversarial(score, counts, truth, given[0], given[1])
    share = tl.load(weight + b).to(score.dtype)
    slope, true_slope = tl.where(counts, share * slope, 0.0), share * true_slope
    tl.store(positive + b, truth)
    tl.store(losses + b, loss.to(tl.float64))
    tl.store(coefficient + b * candidates + n, slope, mask=inside)
    tl.store(by_positive + b, true_slope)
    return slope, true_slope


@triton.jit(do_not_specialize=["margin", "temperature"])
@no_type_check
def _weigh(
    query, rows, target, known, weight, negative, positive, losses, by_positive, coefficient, by_query,
    candidates, width, margin, temperature,
    SOFTMAX: tl.constexpr, MASKED: tl.constexpr, N: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """Of dot products: from the scores of the negatives. `by_query` gets what follows from the positive."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, N)
    inside = n < candidates
    score = tl.load(negative + b * candidates + n, mask=inside, other=0.0)
    true_row, truth = _truth(query, rows, target, b, width, DOT, E)
    _, true_slope = _losses(
        b, score, truth, inside, known, weight, positive, losses, by_positive, coefficient,
        candidates, margin, temperature, SOFTMAX, MASKED,
    )  # fmt: skip
    for start in range(0, width, E):
        e = start + tl.arange(0, E)
        here = e < width
        answer = tl.sum(load_rows(rows, true_row, true_row >= 0, e, here, width), 0)
        tl.store(by_query + b * width + e, true_slope * answer, mask=here)


@triton.jit(do_not_specialize=["margin", "temperature"])
@no_type_check
def _contrast(
    query, rows, place, target, known, weight, negative, positive, losses, by_positive, coefficient, by_query,
    size, candidates, width, margin, temperature,
    KIND: tl.constexpr, SOFTMAX: tl.constexpr, MASKED: tl.constexpr, N: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, N)
    inside = n < candidates
    row = tl.load(place + b // size * candidates + n, mask=inside, other=0)
    score = scores(query + b * width, rows, row, inside, width, KIND, N, E)
    tl.store(negative + b * candidates + n, score, mask=inside)
    true_row, truth = _truth(query, rows, target, b, width, KIND, E)
    slope, true_slope = _losses(
        b, score, truth, inside, known, weight, positive, losses, by_positive, coefficient,
        candidates, margin, temperature, SOFTMAX, MASKED,
    )  # fmt: skip
    factor = over_score(slope, score, KIND)
    true_factor = over_score(true_slope, truth, KIND) + tl.zeros((1,), dtype=score.dtype)
    place_of = b * width
    _store_query_gradient(
        query + place_of, rows, row, inside, factor, true_row, true_factor, by_query + place_of, width, KIND, E
    )


def contrast(
    kind: Comparison,
    loss: RowLoss,
    margin: float,
    temperature: float,
    query: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, "C N"],
    target: Int64[Tensor, " B"],
    known: Bool[Tensor, "B N"] | None,
    weight: Float64[Tensor, " B"],
    precision: Precision = Precision.FLOAT32,
) -> Contrast:
    """As `kernels.contrast.contrast`, which checks the shapes, with one part of gradients by candidates for a chunk."""
    (chunks, candidates), (queries, width) = place.shape, query.shape
    size = queries // max(chunks, 1)
    negative, by_query = query.new_empty((queries, candidates)), torch.empty_like(query)
    coefficient = torch.empty_like(negative)
    positive, by_positive = query.new_empty((2, queries))
    losses = torch.empty_like(weight)
    block = max(triton.next_power_of_2(candidates), 16)
    options = {"SOFTMAX": loss == RowLoss.SOFTMAX, "MASKED": known is not None, "N": block}
    mask = weight if known is None else known.view(torch.uint8)
    numbers = candidates, width, bits(margin), bits(temperature)
    out = negative, positive, losses, by_positive, coefficient, by_query
    if kind == Comparison.DOT:
        pool = rows.index_select(0, place.flatten()).view(chunks, candidates, width)
        asked, pool = lowered(query.view(chunks, size, width), precision), lowered(pool, precision)
        negative = multiplied(asked, pool.transpose(1, 2), precision).to(query.dtype).view(queries, candidates)
        out = negative, positive, losses, by_positive, coefficient, by_query
        if queries:
            _weigh[(queries,)](query, rows, target, mask, weight, *out, *numbers, **options, E=_NUMBERS_OF_ONE)
        slopes = lowered(coefficient.view(chunks, size, candidates), precision)
        multiplied(slopes, pool, precision, plus=by_query.view(chunks, size, width))
        by_candidate = multiplied(slopes.transpose(1, 2), asked, precision).to(query.dtype)
    else:
        if queries:
            options |= {"KIND": kind.number, "E": numbers_of_block(kind, block)}
            _contrast[(queries,)](query, rows, place, target, mask, weight, *out, size, *numbers, **options)
        by_candidate = candidate_gradient(kind, query, rows, place, coefficient, negative)
    return Contrast(positive, negative, losses, by_positive, by_query, by_candidate[:, None])


def numbers_of_block(kind: Comparison, block: int) -> int:
    """How many numbers of each row are handled at a time; complex ones are two each."""
    return min(max((_BLOCK // 2 if kind == Comparison.MODULUS else _BLOCK) // block, 4), 64)
