"""Feature maps of a convolution and what a matrix makes of them, in blocks: all maps of a batch fit into no cache."""

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import unfold

from embedding.scoring.dense import add_outer, blocks_of_rows, rows_together
from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 21
"""Most numbers in a block of maps, on a CPU, where a block need not be as large as what is summed together."""


def patches_of(image: Float[Tensor, "B H W"], kernel: int) -> Float[Tensor, "B K P"]:
    """The squares of `kernel` x `kernel` numbers at each of P places, read row by row; then a 1, for a bias."""
    patches = unfold(image[:, None], kernel)
    return torch.cat([patches, patches.new_ones((len(patches), 1, patches.shape[2]))], dim=1)


def project_maps(
    patches: Float[Tensor, "B K P"],
    weights: Float64[Tensor, "K F"],
    scale: Float[Tensor, "B F"] | None,
    matrix: Float64[Tensor, "F_P D"],
    bias: Float64[Tensor, " D"] | None,
    chunk_size: int | None,
) -> Float[Tensor, "B D"]:
    """vec(scale * relu(weights . patch at each place)) matrix + bias; gradients of dense parameters are in float64.

    The maps of a block are computed again for the gradient, which takes less time than reading them from memory.

    Args:
        weights: of each of F filters; the last row is the filter's bias.
        scale: factors of dropout, which are not negative; None: 1.
        matrix: filter by filter, in each filter place by place.
        bias: None: there is none.
        chunk_size: as for `rows_together`.
    """
    return cast(Tensor, _Projection.apply(patches, weights, scale, matrix, bias, chunk_size))


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        patches: Tensor,
        weights: Tensor,
        scale: Tensor | None,
        matrix: Tensor,
        bias: Tensor | None,
        chunk_size: int | None,
    ) -> Tensor:
        filters, matrix = weights.to(patches.dtype).T.contiguous(), matrix.to(patches.dtype)
        ctx.save_for_backward(patches, filters, scale, matrix)  # pyright: ignore[reportArgumentType]
        ctx.chosen = bias is not None, chunk_size  # pyright: ignore[reportAttributeAccessIssue]
        result = patches.new_empty((len(patches), matrix.shape[1]))
        for block, maps in _blocks_of_maps(patches, filters, scale, None):
            torch.mm(maps.flatten(1), matrix, out=result[block])
        return result if bias is None else result.add_(bias.to(result.dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        patches, filters, scale, matrix = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        has_bias, chunk_size = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        given = gradient[0].contiguous()
        by_patches = torch.empty_like(patches)
        by_weights, by_matrix = (
            torch.zeros(shape, dtype=torch.float64, device=given.device) for shape in (filters.T.shape, matrix.shape)
        )
        together = rows_together(patches, chunk_size)
        within = None if together is None else (together, chunk_size)
        for block, maps in _blocks_of_maps(patches, filters, scale, within):
            add_outer(by_matrix, maps.flatten(1), given[block], together=together is not None)
            by_maps = (given[block] @ matrix.T).view_as(maps)
            torch.ops.aten.threshold_backward.grad_input(by_maps, maps, 0, grad_input=by_maps)
            if scale is not None:
                by_maps *= scale[block, :, None]
            # Over the places of a row in its own type, over rows in float64: ranks have other rows.
            by_weights += (patches[block] @ by_maps.mT).sum(0, dtype=torch.float64)
            torch.matmul(filters.T, by_maps, out=by_patches[block])
        by_bias = given.sum(0, dtype=torch.float64) if has_bias else None
        return by_patches, by_weights, None, by_matrix, by_bias, None


def _blocks_of_maps(
    patches: Float[Tensor, "B K P"],
    filters: Float[Tensor, "F K"],
    scale: Float[Tensor, "B F"] | None,
    together: tuple[int, int] | None,
) -> Iterator[tuple[slice, Float[Tensor, "b F P"]]]:
    """Blocks of rows and their maps, which the next block overwrites.

    Args:
        together: rows of a block and of the chunk that it must lie in; None: a block has any rows.
    """
    row_numbers = len(filters) * patches.shape[2]
    most, chunk = together or (numbers_at_a_time(_BLOCK_NUMBERS, patches.device) // row_numbers, None)
    blocks = blocks_of_rows(len(patches), max(1, most), chunk)
    room = patches.new_empty((max((len(patches[each]) for each in blocks), default=0), len(filters), patches.shape[2]))
    for block in blocks:
        maps = room[: len(patches[block])]
        torch.matmul(filters, patches[block], out=maps)
        maps.relu_()
        if scale is not None:
            maps *= scale[block, :, None]
        yield block, maps
