"""Sums of the gradients of each table row, in float64 and in one order, so that runs are repeatable."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_NUMBERS = 128


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


def sum_occurrences(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], dtype: torch.dtype
) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    """The distinct places, ascending, and the sum of the values of each, in float64 rounded to `dtype`."""
    place, order = place.sort(stable=True)
    row, count = torch.unique_consecutive(place, return_counts=True)
    begin = torch.cat([count.new_zeros(1), count.cumsum(0)])
    out = value.new_empty((len(row), value.shape[1]), dtype=dtype)
    if out.numel():
        grid = len(row), triton.cdiv(value.shape[1], _NUMBERS)
        _sum[grid](order, begin, value.contiguous(), out, value.shape[1], E=_NUMBERS)
    return row, out


def whole_sum(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> Float[Tensor, "U E"]:
    """The same sums as a tensor of all rows: zeros where nothing occurs. The host does not wait."""
    place, order = place.sort(stable=True)
    begin = torch.searchsorted(place, torch.arange(num_rows + 1, device=place.device))
    out = value.new_empty((num_rows, value.shape[1]), dtype=dtype)
    if out.numel():
        grid = num_rows, triton.cdiv(value.shape[1], _NUMBERS)
        _sum[grid](order, begin, value.contiguous(), out, value.shape[1], E=_NUMBERS)
    return out
