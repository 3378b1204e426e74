"""Products of rows with dense parameters, which are float64 and are rounded to the type of the rows when used."""

from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 20
"""Most numbers that are copied to float64 at a time, on a CPU."""


def affine(
    rows: Float[Tensor, "B I"], weight: Float64[Tensor, "I O"], bias: Float64[Tensor, " O"] | None
) -> Float[Tensor, "B O"]:
    """rows @ weight + bias, whose gradients of weight and bias are summed in float64; None: no bias."""
    return cast(Tensor, _Affine.apply(rows, weight, bias))


def sum_outer(left: Float[Tensor, "B I"], right: Float[Tensor, "B O"]) -> Float64[Tensor, "I O"]:
    """The sum over B of the outer products, in float64."""
    total = torch.zeros((left.shape[1], right.shape[1]), dtype=torch.float64, device=left.device)
    size = max(1, numbers_at_a_time(_BLOCK_NUMBERS, left.device) // max(1, left.shape[1], right.shape[1]))
    for left_rows, right_rows in zip(left.split(size), right.split(size), strict=True):
        total.addmm_(left_rows.double().T, right_rows.double())
    return total


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.to(rows.dtype)
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None  # pyright: ignore[reportAttributeAccessIssue]
        return rows @ weight if bias is None else torch.addmm(bias.to(rows.dtype), rows, weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        rows, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        given = gradient[0]
        has_bias: bool = ctx.has_bias  # pyright: ignore[reportAttributeAccessIssue]
        return given @ weight.T, sum_outer(rows, given), given.sum(0, dtype=torch.float64) if has_bias else None
