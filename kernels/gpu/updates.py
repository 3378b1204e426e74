"""Updates of table rows in place, one program for each row. Rows whose norm is limited are clipped in the same pass."""

from itertools import accumulate
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from kernels.gpu.numbers import bits, number
from kernels.number import Number

_NUMBERS = 1024
"""Numbers that a program moves, if it needs no whole row."""
WIDEST = 1 << 14
"""The longest row that a program clips."""


@triton.jit
@no_type_check
def _clipped(row, e, bound, ENDS: tl.constexpr):
    """The row with each part scaled to a norm of at most `bound`. ENDS: where parts end; empty: nothing is scaled."""
    for part in tl.static_range(len(ENDS)):
        first = ENDS[part - 1] if part > 0 else 0
        within = (e >= first) & (e < ENDS[part])
        norm = tl.sqrt(tl.sum(tl.where(within, row * row, 0.0), 0))
        row = tl.where(within, row * (bound / tl.maximum(norm, bound)), row)
    return row


@triton.jit
@no_type_check
def _moves(row, k):
    """Whether program k moves the row at its place: the program of the first place of a row that repeats does."""
    return (k == 0) | (tl.load(row + tl.maximum(k, 1) - 1) != tl.load(row + k))


@triton.jit
@no_type_check
def _first_place(row, at, places):
    """The first place whose row is not before `at`; `places` if there is none."""
    first, end = tl.zeros_like(at), at * 0 + places
    while first < end:
        middle = (first + end) // 2
        before = tl.load(row + middle) < at
        first, end = tl.where(before, middle + 1, first), tl.where(before, end, middle)
    return first


@triton.jit
@no_type_check
def _gradient(row, order, value, k, at, places, some, e, here, width, like, SUMMED: tl.constexpr):
    """The gradient of row `at`, in the type of `like`: value k, or the sum of those of its places, if it has some.

    Its places are from k on.
    """
    if SUMMED:
        return tl.load(value + k * width + e, mask=here, other=0.0).to(like.dtype)
    total = tl.zeros_like(e).to(tl.float64)
    same = some
    while same:
        place = tl.load(order + k)
        total += tl.load(value + place * width + e, mask=here, other=0.0).to(tl.float64)
        k += 1
        same = (k < places) & (tl.load(row + tl.minimum(k, places - 1)) == at)
    return total.to(like.dtype)


@triton.jit(do_not_specialize=["lr", "eps", "bound"])
@no_type_check
def _rowwise_adagrad(
    weight, square_sum, row, order, value, good, places, width, lr, eps, bound,
    SUMMED: tl.constexpr, GUARDED: tl.constexpr, ENDS: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0).to(tl.int64)
    at, moves = tl.load(row + k).to(tl.int64), _moves(row, k)
    if GUARDED:
        moves = moves & (tl.load(good) != 0)
    e = tl.arange(0, E)
    here = e < tl.where(moves, width, 0)
    own = tl.load(weight + at * width + e, mask=here, other=0.0)
    gradient = _gradient(row, order, value, k, at, places, moves, e, here, width, own, SUMMED)
    wide = gradient.to(tl.float64)
    total = tl.load(square_sum + at)
    total += (tl.sum(wide * wide, 0) / width).to(total.dtype)
    tl.store(square_sum + at, total, mask=moves)
    own -= number(lr, own) * gradient / (tl.sqrt(total) + number(eps, own))
    tl.store(weight + at * width + e, _clipped(own, e, number(bound, own), ENDS), mask=here)


@triton.jit(do_not_specialize=["lr", "eps"])
@no_type_check
def _adagrad(weight, square_sum, gradient, good, total, lr, eps, GUARDED: tl.constexpr, E: tl.constexpr):
    e = tl.program_id(0).to(tl.int64) * E + tl.arange(0, E)
    here = e < total
    if GUARDED:
        here = e < tl.where(tl.load(good) != 0, total, 0)
    given = tl.load(gradient + e, mask=here, other=0.0)
    own = tl.load(weight + e, mask=here, other=0.0)
    square = tl.load(square_sum + e, mask=here, other=0.0) + given * given
    tl.store(square_sum + e, square, mask=here)
    own -= number(lr, own) * given / (tl.sqrt(square) + number(eps, own))
    tl.store(weight + e, own, mask=here)


@triton.jit(do_not_specialize=["rate", "root", "beta1", "beta2", "eps", "decay", "bound"])
@no_type_check
def _adam(
    weight, mean, square, row, order, value, good, places, width, rate, root, beta1, beta2, eps, decay, bound,
    SUMMED: tl.constexpr, GUARDED: tl.constexpr, EVERYWHERE: tl.constexpr, ENDS: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * E + tl.arange(0, E)
    at, moves = k, k >= 0
    if not EVERYWHERE:
        at, moves = tl.load(row + k).to(tl.int64), _moves(row, k)
    if GUARDED:
        moves = moves & (tl.load(good) != 0)
    some = moves
    if EVERYWHERE and not SUMMED:
        k = _first_place(row, at, places)
        some = moves & (k < places) & (tl.load(row + tl.minimum(k, places - 1)) == at)
    here = e < tl.where(moves, width, 0)
    place = at * width + e
    own = tl.load(weight + place, mask=here, other=0.0)
    gradient = _gradient(row, order, value, k, at, places, some, e, here, width, own, SUMMED)
    gradient += number(decay, own) * own
    first = tl.load(mean + place, mask=here, other=0.0)
    second = tl.load(square + place, mask=here, other=0.0)
    first += (1.0 - number(beta1, own)) * (gradient - first)
    second = number(beta2, own) * second + (1.0 - number(beta2, own)) * gradient * gradient
    tl.store(mean + place, first, mask=here)
    tl.store(square + place, second, mask=here)
    own -= number(rate, own) * first / (tl.sqrt(second) / number(root, own) + number(eps, own))
    tl.store(weight + place, _clipped(own, e, number(bound, own), ENDS), mask=here)


@triton.jit(do_not_specialize=["bound"])
@no_type_check
def _clip(rows, good, width, bound, GUARDED: tl.constexpr, ENDS: tl.constexpr, E: tl.constexpr):
    e = tl.arange(0, E)
    here = e < width
    if GUARDED:
        here = e < tl.where(tl.load(good) != 0, width, 0)
    place = tl.program_id(0).to(tl.int64) * width + e
    own = tl.load(rows + place, mask=here, other=0.0)
    tl.store(rows + place, _clipped(own, e, number(bound, own), ENDS), mask=here)


def rowwise_adagrad(
    weight: Float[Tensor, "L D"],
    square_sum: Float[Tensor, "L 1"],
    row: Int[Tensor, " K"],
    order: Int64[Tensor, " K"] | None,
    value: Float[Tensor, "K D"],
    good: Bool[Tensor, ""] | None,
    *,
    lr: Number,
    eps: float,
    widths: tuple[int, ...],
    max_norm: float | None,
) -> None:
    """As `kernels.updates.rowwise_adagrad`.

    Args:
        row: ascending; rows may repeat.
        order: the gradient of row[k] is the sum of value[order[j]] over all places j of the row, in float64; None: it
            is the value at the first place.
    """
    if len(row):
        numbers = bits(lr), bits(eps), bits(max_norm or 0.0)
        sizes = {"ENDS": _ends(widths, max_norm), "E": triton.next_power_of_2(weight.shape[1])}
        given = weight, square_sum, row, row if order is None else order, value.contiguous(), _word(good, row)
        chosen = {"SUMMED": order is None, "GUARDED": good is not None}
        _rowwise_adagrad[(len(row),)](*given, len(row), weight.shape[1], *numbers, **chosen, **sizes)


def adagrad(
    weight: Float[Tensor, "K W"],
    square_sum: Float[Tensor, "K W"],
    gradient: Float[Tensor, "K W"],
    good: Bool[Tensor, ""] | None,
    *,
    lr: Number,
    eps: float,
) -> None:
    """As `kernels.updates.adagrad`."""
    if weight.numel():
        given = weight, square_sum, gradient.contiguous(), _word(good, weight), weight.numel(), bits(lr), bits(eps)
        _adagrad[(triton.cdiv(weight.numel(), _NUMBERS),)](*given, GUARDED=good is not None, E=_NUMBERS)


def adam(
    weight: Float[Tensor, "L D"],
    mean: Float[Tensor, "L D"],
    square: Float[Tensor, "L D"],
    row: Int[Tensor, " K"] | None,
    order: Int64[Tensor, " K"] | None,
    value: Float[Tensor, "K D"],
    good: Bool[Tensor, ""] | None,
    *,
    everywhere: bool,
    rate: Number,
    root: Number,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    widths: tuple[int, ...],
    max_norm: float | None,
) -> None:
    """As `kernels.updates.adam`; `rate` and `root` have the bias corrections.

    Args:
        row, order: as in `rowwise_adagrad`, and there is at least one place; None, only with `everywhere`: there is a
            value for each row of the table.
    """
    moved = len(weight) if everywhere else len(value)
    if moved:
        numbers = (bits(each) for each in (rate, root, *betas, eps, weight_decay, max_norm or 0.0))
        block = triton.next_power_of_2(weight.shape[1])
        if max_norm is None:  # else a program needs the whole row
            block = min(block, _NUMBERS)
        where, sources = (value if each is None else each for each in (row, order))
        given = weight, mean, square, where, sources, value.contiguous(), _word(good, value)
        chosen = {"SUMMED": order is None, "GUARDED": good is not None, "EVERYWHERE": everywhere}
        grid = moved, triton.cdiv(weight.shape[1], block)
        _adam[grid](*given, len(value), weight.shape[1], *numbers, **chosen, ENDS=_ends(widths, max_norm), E=block)


def clip(
    rows: Float[Tensor, "K W"], good: Bool[Tensor, ""] | None, *, widths: tuple[int, ...], max_norm: float
) -> None:
    """As `kernels.updates.Ball.clip_`."""
    if rows.numel():
        sizes = {"ENDS": _ends(widths, max_norm), "E": triton.next_power_of_2(rows.shape[1])}
        given = rows, _word(good, rows), rows.shape[1], bits(max_norm)
        _clip[(len(rows),)](*given, GUARDED=good is not None, **sizes)


def _word(good: Bool[Tensor, ""] | None, other: Tensor) -> Tensor:
    """`good` as kernels read it; another tensor, which they do not read, if there is none."""
    return other if good is None else good.view(torch.uint8)


def _ends(widths: tuple[int, ...], max_norm: float | None) -> tuple[int, ...]:
    return () if max_norm is None else tuple(accumulate(widths))
