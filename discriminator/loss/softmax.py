"""Softmax cross-entropy over a positive and its negatives (KBGAN, section 3.1: the generator's pre-training)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discriminator.loss.compiled import compiled_loss
from discriminator.loss.loss import Loss, Scores
from kernels.library import usable
from kernels.losses import OnePassLoss, RowLoss

_ONE_PASS = OnePassLoss(RowLoss.SOFTMAX)


class Softmax(Loss):
    """-log of the positive's share among itself and its negatives."""

    @property
    def one_pass(self) -> OnePassLoss:
        """See `Loss.one_pass`."""
        return _ONE_PASS

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        return cross_entropy(scores.positive, scores.negative, scores.known)


def cross_entropy(
    positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None
) -> Float[Tensor, " B"]:
    """log(e^positive + sum e^negative) - positive, by a kernel where there is one."""
    if usable(negative):
        return compiled_loss(_ONE_PASS, positive, negative, known)
    if known is not None:
        negative = negative.masked_fill(known, -torch.inf)
    return torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive
