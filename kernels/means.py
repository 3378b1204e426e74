"""Weighted means over a batch, in one pass on a GPU with Triton; plain torch elsewhere."""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu


def weighted_mean(value: Float[Tensor, " B"], weight: Float64[Tensor, " B"], total: float) -> Float64[Tensor, ""]:
    """The sum of weight * value, divided by `total`; differentiable with respect to `value`."""
    if usable_on_gpu(value):
        return _WeightedMean.apply(value, weight, total)
    return torch.dot(value.double(), weight) / total


class _WeightedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, total: float) -> Tensor:
        import kernels.gpu.means as gpu

        ctx.save_for_backward(weight)
        ctx.total, ctx.dtype = total, value.dtype
        return gpu.weighted_mean(value, weight, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        import kernels.gpu.means as gpu

        (weight,) = ctx.saved_tensors
        return gpu.divided(weight, ctx.total, ctx.dtype, gradients[0]), None, None


def divided(weight: Float64[Tensor, " B"], divisor: float, dtype: torch.dtype) -> Float[Tensor, " B"]:
    """weight / divisor, computed in float64 and rounded to `dtype`."""
    if usable_on_gpu(weight):
        import kernels.gpu.means as gpu

        return gpu.divided(weight, divisor, dtype)
    return (weight / divisor).to(dtype)


def mean_of_rows(value: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """The mean of each row. A row of one number is its own mean, which takes no kernel of a GPU."""
    return value.squeeze(1) if value.shape[1] == 1 else value.mean(1)
