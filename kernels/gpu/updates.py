"""Updates of table rows in place, one program for each row. Rows whose norm is limited are clipped in the same pass."""

from itertools import accumulate
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.gpu.numbers import bits, number


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


@triton.jit(do_not_specialize=["lr", "eps", "bound"])
@no_type_check
def _adagrad(weight, square_sum, row, value, width, lr, eps, bound, ENDS: tl.constexpr, E: tl.constexpr):
    k = tl.program_id(0).to(tl.int64)
    at = tl.load(row + k)
    e = tl.arange(0, E)
    here = e < width
    gradient = tl.load(value + k * width + e, mask=here, other=0.0)
    wide = gradient.to(tl.float64)
    total = tl.load(square_sum + at)
    total += (tl.sum(wide * wide, 0) / width).to(total.dtype)
    tl.store(square_sum + at, total)
    own = tl.load(weight + at * width + e, mask=here, other=0.0)
    own -= number(lr, own) * gradient / (tl.sqrt(total) + number(eps, own))
    tl.store(weight + at * width + e, _clipped(own, e, number(bound, own), ENDS), mask=here)


@triton.jit(do_not_specialize=["rate", "root", "beta1", "beta2", "eps", "decay", "bound"])
@no_type_check
def _adam(
    weight, mean, square, row, value, source_of, width, rate, root, beta1, beta2, eps, decay, bound,
    EVERYWHERE: tl.constexpr, ENDS: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, E)
    here = e < width
    # With EVERYWHERE there is a program for each row of the table; a row without a gradient has source -1.
    if EVERYWHERE:
        at, source = k, tl.load(source_of + k)
    else:
        at, source = tl.load(row + k), k
    place = at * width + e
    own = tl.load(weight + place, mask=here, other=0.0)
    has_gradient = e < tl.where(source >= 0, width, 0)
    gradient = tl.load(value + source * width + e, mask=has_gradient, other=0.0) + number(decay, own) * own
    first = tl.load(mean + place, mask=here, other=0.0)
    second = tl.load(square + place, mask=here, other=0.0)
    first += (1.0 - number(beta1, own)) * (gradient - first)
    second = number(beta2, own) * second + (1.0 - number(beta2, own)) * gradient * gradient
    tl.store(mean + place, first, mask=here)
    tl.store(square + place, second, mask=here)
    own -= number(rate, own) * first / (tl.sqrt(second) / number(root, own) + number(eps, own))
    tl.store(weight + place, _clipped(own, e, number(bound, own), ENDS), mask=here)


def rowwise_adagrad(
    weight: Float[Tensor, "L D"],
    square_sum: Float[Tensor, "L 1"],
    row: Int64[Tensor, " K"],
    value: Float[Tensor, "K D"],
    *,
    lr: float,
    eps: float,
    widths: tuple[int, ...],
    max_norm: float | None,
) -> None:
    """As `kernels.updates.rowwise_adagrad`."""
    if len(row):
        numbers = bits(lr), bits(eps), bits(max_norm or 0.0)
        sizes = {"ENDS": _ends(widths, max_norm), "E": triton.next_power_of_2(weight.shape[1])}
        _adagrad[(len(row),)](weight, square_sum, row, value, weight.shape[1], *numbers, **sizes)


def adam(
    weight: Float[Tensor, "L D"],
    mean: Float[Tensor, "L D"],
    square: Float[Tensor, "L D"],
    row: Int64[Tensor, " K"],
    value: Float[Tensor, "K D"],
    *,
    everywhere: bool,
    rate: float,
    root: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    widths: tuple[int, ...],
    max_norm: float | None,
) -> None:
    """As `kernels.updates.adam`; `rate` and `root` have the bias corrections."""
    programs = len(weight) if everywhere else len(row)
    if not programs:
        return
    source_of = row
    if everywhere:
        source_of = torch.full((len(weight),), -1, dtype=torch.int64, device=row.device)
        source_of[row] = torch.arange(len(row), device=row.device)
    numbers = (bits(each) for each in (rate, root, *betas, eps, weight_decay, max_norm or 0.0))
    sizes = {"ENDS": _ends(widths, max_norm), "E": triton.next_power_of_2(weight.shape[1])}
    given = weight, mean, square, row, value, source_of, weight.shape[1]
    _adam[(programs,)](*given, *numbers, EVERYWHERE=everywhere, **sizes)


def _ends(widths: tuple[int, ...], max_norm: float | None) -> tuple[int, ...]:
    return () if max_norm is None else tuple(accumulate(widths))
