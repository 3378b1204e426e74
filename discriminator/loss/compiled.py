"""Losses whose value and gradient each take one pass over the scores, where kernels can be had."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.losses import OnePassLoss, RowLoss, row_loss, row_loss_gradient


def compiled_loss(
    loss: OnePassLoss,
    positive: Float[Tensor, " B"],
    negative: Float[Tensor, "B N"],
    known: Bool[Tensor, "B N"] | None,
) -> Float[Tensor, " B"]:
    """The loss of each positive, differentiable."""
    mask = None if known is None else known.contiguous()
    scores = positive.contiguous(), negative.contiguous()
    return cast(Tensor, _CompiledLoss.apply(loss.kind, *scores, mask, loss.options))


class _CompiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        kind: RowLoss,
        positive: Tensor,
        negative: Tensor,
        known: Tensor | None,
        options: tuple[float, ...],
    ) -> Tensor:
        loss, state = row_loss(kind, positive, negative, known, options)
        ctx.save_for_backward(positive, negative, known, state)  # pyright: ignore[reportArgumentType]
        ctx.chosen = kind, options  # pyright: ignore[reportAttributeAccessIssue]
        return loss

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        positive, negative, known, state = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        kind, options = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        given = positive, negative, known, state, gradient[0].contiguous()
        return None, *row_loss_gradient(kind, *given, options), None, None
