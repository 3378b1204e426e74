"""Products of rows with dense parameters, which are float64 and are rounded to the type of the rows when used."""

from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 20
"""Most numbers that are copied to float64 at a time, on a CPU."""
_TILE_NUMBERS = 1 << 16
"""Most numbers of a sum that are worked on at a time, on a CPU: its cache holds them in two types."""
_FEWEST_TOGETHER = 32
"""Rows from which a product in the rows' type, added to a float64 total, takes less time than one in float64."""
_MOST_TOGETHER = 256
"""Most rows of such a product: more would not be faster, and each adds to what is rounded away."""


def affine(
    rows: Float[Tensor, "B I"], weight: Float64[Tensor, "I O"], bias: Float64[Tensor, " O"] | None
) -> Float[Tensor, "B O"]:
    """rows @ weight + bias, whose gradients of weight and bias are summed in float64; None: no bias."""
    return cast(Tensor, _Affine.apply(rows, weight, bias))


def sum_outer(left: Float[Tensor, "B I"], right: Float[Tensor, "B O"]) -> Float64[Tensor, "I O"]:
    """The sum over B of the outer products, in float64."""
    total = torch.zeros((left.shape[1], right.shape[1]), dtype=torch.float64, device=left.device)
    add_outer(total, left, right, together=False)
    return total


def add_outer(
    total: Float64[Tensor, "I O"], left: Float[Tensor, "B I"], right: Float[Tensor, "B O"], *, together: bool
) -> None:
    """Adds the sum over B of the outer products to `total`.

    Args:
        together: the sum of these rows is computed in their own type; else in float64. See `rows_together`.
    """
    if not together:
        size = max(1, numbers_at_a_time(_BLOCK_NUMBERS, left.device) // max(1, left.shape[1], right.shape[1]))
        for left_rows, right_rows in zip(left.split(size), right.split(size), strict=True):
            total.addmm_(left_rows.double().T, right_rows.double())
        return
    size = max(1, _TILE_NUMBERS // max(1, right.shape[1]))
    for tile, columns in zip(total.split(size), left.split(size, dim=1), strict=True):
        tile += columns.T @ right


def rows_together(rows: Float[Tensor, "B *_"], chunk_size: int | None) -> int | None:
    """How many rows of a chunk `add_outer` may take together; None: it must sum in float64.

    The sum of a block of rows of one chunk is the same wherever ranks cut the batch, because they cut it between
    chunks. So it need not be in float64, if the total over blocks is. A GPU sums in float64 about as fast.

    Args:
        chunk_size: rows of a chunk, if `rows` are whole chunks one after the other; None: they are not.
    """
    if chunk_size is None or chunk_size < _FEWEST_TOGETHER or rows.dtype == torch.float64 or not rows.is_cpu:
        return None
    return -(-chunk_size // -(-chunk_size // _MOST_TOGETHER))


def blocks_of_rows(count: int, most: int, chunk_size: int | None) -> list[slice]:
    """Consecutive blocks of `count` rows, of at most `most` rows each, and each within a chunk of `chunk_size` rows.

    Args:
        chunk_size: None: rows are not in chunks.
    """
    whole = count if chunk_size is None else chunk_size
    return [
        slice(start, min(start + most, chunk + whole, count))
        for chunk in range(0, count, max(1, whole))
        for start in range(chunk, min(chunk + whole, count), max(1, most))
    ]


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
