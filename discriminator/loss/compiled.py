"""Losses that have a kernel: computed from scores, forward and backward, or by torch where kernels can't be used."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import softplus

from kernels.library import usable
from kernels.losses import KernelLoss, RowLoss, row_loss, row_loss_gradient


def loss_of_scores(
    loss: KernelLoss,
    positive: Float[Tensor, " B"],
    negative: Float[Tensor, "B N"],
    known: Bool[Tensor, "B N"] | None,
) -> Float[Tensor, " B"]:
    """The loss of each positive, differentiable.

    Args:
        loss: the kind of loss and its options.
        known: True where a negative is left out; None: none is left out.
    """
    if not usable(negative):
        return (
            _softmax(positive, negative, known)
            if loss.kind == RowLoss.SOFTMAX
            else _self_adversarial(loss, positive, negative, known)
        )
    mask = None if known is None else known.contiguous()
    scores = positive.contiguous(), negative.contiguous()
    return cast(Tensor, _CompiledLoss.apply(loss.kind, *scores, mask, loss.options))


def _softmax(positive: Tensor, negative: Tensor, known: Tensor | None) -> Tensor:
    """log(e^positive + sum e^negative) - positive."""
    if known is not None:
        negative = negative.masked_fill(known, -torch.inf)
    return torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive


def _self_adversarial(loss: KernelLoss, positive: Tensor, negative: Tensor, known: Tensor | None) -> Tensor:
    """Log-sigmoid with margin. Negatives are weighted by the softmax of temperature * score, without gradient."""
    logits = negative.detach() * loss.temperature
    if known is None:
        weight = logits.softmax(1)
    else:
        # If all negatives of a row are masked, the softmax gives nan. A masked score may be infinite. Both become 0.
        weight = logits.masked_fill(known, -torch.inf).softmax(1).masked_fill(known, 0.0)
        negative = negative.masked_fill(known, 0.0)
    return softplus(-loss.margin - positive) + (weight * softplus(loss.margin + negative)).sum(1)


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
