"""Weighted means over a batch, and their gradients, in float64 and in one order, so that runs are repeatable."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64
from torch import Tensor

from kernels.gpu.numbers import bits, number

_NUMBERS = 1024
"""Numbers that a program handles at a time. One program adds all: some microseconds for a batch of 4,096."""


@triton.jit(do_not_specialize=["divisor"])
@no_type_check
def _mean(value, weight, out, size, divisor, N: tl.constexpr):
    total = tl.zeros((N,), dtype=tl.float64)
    for start in range(0, size, N):
        n = start + tl.arange(0, N)
        here = n < size
        given = tl.load(value + n, mask=here, other=0.0).to(tl.float64)
        total += given * tl.load(weight + n, mask=here, other=0.0)
    total = tl.sum(total, 0)
    tl.store(out, total / number(divisor, total))


@triton.jit(do_not_specialize=["divisor"])
@no_type_check
def _divided(weight, factor, out, size, divisor, SCALED: tl.constexpr, N: tl.constexpr):
    n = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    here = n < size
    given = tl.load(weight + n, mask=here, other=0.0)
    share = given / number(divisor, given)
    if SCALED:
        share *= tl.load(factor)
    tl.store(out + n, share.to(out.dtype.element_ty), mask=here)


def weighted_mean(value: Float[Tensor, " B"], weight: Float64[Tensor, " B"], total: float) -> Float64[Tensor, ""]:
    """The sum of weight * value, divided by `total`."""
    out = weight.new_empty(())
    _mean[(1,)](value.contiguous(), weight.contiguous(), out, len(value), bits(total), N=_NUMBERS)
    return out


def divided(
    weight: Float64[Tensor, " B"], divisor: float, dtype: torch.dtype, factor: Float64[Tensor, ""] | None = None
) -> Float[Tensor, " B"]:
    """factor * weight / divisor, computed in float64 and rounded to `dtype`; None: factor 1.

    It is the gradient of `weighted_mean` with respect to the values, if `factor` is that of the mean.
    """
    out = torch.empty_like(weight, dtype=dtype)
    if len(out):
        given = weight.contiguous(), weight if factor is None else factor, out
        blocks = triton.cdiv(len(out), _NUMBERS)
        _divided[(blocks,)](*given, len(out), bits(divisor), SCALED=factor is not None, N=_NUMBERS)
    return out
