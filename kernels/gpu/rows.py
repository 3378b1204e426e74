"""Sums of the gradients of each table row, in float64 and in one order, so that runs are repeatable."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_NUMBERS = 128
_PLACES, _OF_FEW = 32, 64
"""Places, and numbers of their values, that a program of `_sum_few` handles at a time."""


@triton.jit
@no_type_check
def _sum(order, begin, value, out, width, E: tl.constexpr):
    r = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * E + tl.arange(0, E)
    here = e < width
    total = tl.zeros((E,), dtype=tl.float64)
    for k in range(tl.load(begin + r), tl.load(begin + r + 1)):
        at = tl.load(order + k)
        total += tl.load(value + at * width + e, mask=here, other=0.0).to(tl.float64)
    tl.store(out + r * width + e, total.to(out.dtype.element_ty), mask=here)


@triton.jit
@no_type_check
def _sum_few(place, value, out, places, width, N: tl.constexpr, E: tl.constexpr):
    r = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * E + tl.arange(0, E)
    here = e < width
    total = tl.zeros((E,), dtype=tl.float64)
    for start in range(0, places, N):
        k = start + tl.arange(0, N)
        own = tl.load(place + k, mask=k < places, other=-1) == r
        if tl.max(own.to(tl.int32), 0) > 0:
            at = k.to(tl.int64)[:, None] * width + e[None, :]
            part = tl.load(value + at, mask=own[:, None] & here[None, :], other=0.0)
            total += tl.sum(part.to(tl.float64), 0)
    tl.store(out + r * width + e, total.to(out.dtype.element_ty), mask=here)


def sums_of_few(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> Float[Tensor, "U E"]:
    """The sums at each of few rows, in float64 rounded to `dtype`: zeros where nothing occurs."""
    out = value.new_empty((num_rows, value.shape[1]), dtype=dtype)
    if out.numel():
        grid = num_rows, triton.cdiv(value.shape[1], _OF_FEW)
        given = place, value.contiguous(), out, len(place), value.shape[1]
        _sum_few[grid](*given, N=_PLACES, E=_OF_FEW)
    return out


def sums_of_segments(
    value: Float[Tensor, "K E"], order: Int64[Tensor, " K"], begin: Int64[Tensor, " S_plus_1"], dtype: torch.dtype
) -> Float[Tensor, "S E"]:
    """The sum of the values order[begin[s]], ..., order[begin[s + 1] - 1] for each s, in float64 rounded to `dtype`."""
    segments, width = len(begin) - 1, value.shape[1]
    out = value.new_empty((segments, width), dtype=dtype)
    if out.numel():
        _sum[segments, triton.cdiv(width, _NUMBERS)](order, begin, value.contiguous(), out, width, E=_NUMBERS)
    return out
