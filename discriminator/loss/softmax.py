"""Softmax cross-entropy over a positive and its negatives (KBGAN, section 3.1: the generator's pre-training)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores
from kernels.losses import KernelLoss, RowLoss

SOFTMAX = KernelLoss(RowLoss.SOFTMAX)


class Softmax(Loss):
    """-log(e^s(positive) / (e^s(positive) + sum of e^s(negative)))."""

    @property
    def kernel(self) -> KernelLoss:
        """The softmax kernel, which has no options."""
        return SOFTMAX

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """log(e^positive + sum e^negative) - positive."""
        return loss_of_scores(SOFTMAX, scores.positive, scores.negative, scores.known)
