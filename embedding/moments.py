"""Mean and variance of channels over rows that several ranks have, as batch norm takes them."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.exchange import add_over_ranks
from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 18
"""Most numbers that are copied to float64 at a time, on a CPU."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel over the rows of all ranks, differentiable; equal on all ranks."""

    mean: Float64[Tensor, " C"]
    variance: Float64[Tensor, " C"]
    """Divided by the number of values, not by one less."""
    rows: int
    """The number of rows that count, of all ranks: positives of the global batch, or entities."""
    values: int
    """The number of values of each channel."""


def moments_of(
    value: Float[Tensor, "B P C"], real: Float64[Tensor, " B"], world_size: int, *, rows: int | None = None
) -> Moments:
    """Mean and variance of each channel over the rows of all ranks and P places. Collective if there are several ranks.

    Forward adds over ranks in float64; backward adds the gradients of all ranks, so it is collective too, and every
    rank must use the results in the same way.

    Args:
        real: 1 for rows that count, 0 for others.
        rows: the number of rows that count on all ranks together; None: it is read from their sum, for which the host
            waits.
    """
    mean, variance, counted = cast(tuple[Tensor, ...], _Moments.apply(value, real, world_size))
    rows = int(counted) if rows is None else rows
    return Moments(mean, variance, rows, rows * value.shape[1])


def moments_of_maps(
    patches: Float[Tensor, "B K P"],
    filters: Float64[Tensor, "K_minus_1 F"],
    real: Float64[Tensor, " B"],
    world_size: int,
) -> Moments:
    """The moments of filters . patch over the rows of all ranks and P places, without these numbers. Collective.

    They follow from the means of the patches' numbers and of the products of each two, which are fewer.

    Args:
        patches: the last of K numbers is 1.
        real: as for `moments_of`.
    """
    products, counted = cast(tuple[Tensor, ...], _Products.apply(patches, real, world_size))
    first, second = products[:-1, -1], products[:-1, :-1]
    mean = first @ filters
    variance = (filters * ((second - torch.outer(first, first)) @ filters)).sum(0)
    rows = int(counted)
    return Moments(mean, variance.clamp(min=0), rows, rows * patches.shape[2])


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, real: Tensor, world_size: int) -> tuple[Tensor, Tensor, Tensor]:
        places, channels = value.shape[1:]
        sums = [real @ each.sum(1, dtype=torch.float64) for each in (value, value.square())]
        total = _added(torch.cat([*sums, real.sum()[None]]), world_size)
        rows = total[-1]
        mean, square = (total[:-1] / (rows * places).clamp(min=1)).split(channels)
        ctx.save_for_backward(value, real, mean, rows)
        ctx.world_size = world_size  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(rows)
        return mean, (square - mean.square()).clamp(min=0), rows

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor, None, None]:
        value, real, mean, rows = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        world_size: int = ctx.world_size  # pyright: ignore[reportAttributeAccessIssue]
        by_mean, by_variance = _added(torch.cat(given[:2]), world_size).chunk(2)
        share = 2 * by_variance / (rows * value.shape[1])
        constant = by_mean / (rows * value.shape[1]) - share * mean
        by_value = value.mul(share.to(value.dtype)).add_(constant.to(value.dtype))
        return by_value * real.to(value.dtype)[:, None, None], None, None


class _Products(torch.autograd.Function):
    """The mean over rows and places of the product of each two numbers, and the rows that count."""

    @staticmethod
    def forward(ctx: FunctionCtx, patches: Tensor, real: Tensor, world_size: int) -> tuple[Tensor, Tensor]:
        size, places = patches.shape[1:]
        total = torch.zeros(size * size, dtype=torch.float64, device=patches.device)
        most = max(1, numbers_at_a_time(_BLOCK_NUMBERS, patches.device) // (size * places))
        for block, counts in zip(patches.split(most), real.split(most), strict=True):
            block = block.double()
            total += counts @ (block @ block.mT).flatten(1)
        total, rows = _added(torch.cat([total, real.sum()[None]]), world_size).split(size * size)
        values = (rows * places).clamp(min=1)
        ctx.save_for_backward(patches, real, values)
        ctx.world_size = world_size  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(rows)
        return (total / values).view(size, size), rows

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor, None, None]:
        patches, real, values = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        world_size: int = ctx.world_size  # pyright: ignore[reportAttributeAccessIssue]
        by_products = _added(given[0].flatten(), world_size).view_as(given[0]) / values
        by_patches = (by_products + by_products.T).to(patches.dtype) @ patches
        return by_patches.mul_(real.to(patches.dtype)[:, None, None]), None, None


def _added(value: Float64[Tensor, " K"], world_size: int) -> Float64[Tensor, " K"]:
    return add_over_ranks(value) if world_size > 1 else value
