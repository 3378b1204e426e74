"""Debiased contrastive loss (Chuang et al., NeurIPS 2020), with hardness weights (Robinson et al., ICLR 2021)."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.hardness import log_difference, log_mean_exp
from discriminator.loss.loss import Loss, Scores
from graph.errors import InputError


class Debiased(Loss):
    """-log(e^s / (e^s + N g)), with s the positive's score, N its negatives, and g a corrected mean of e^s(negative).

    g = max((mean of e^s(negative) - prior e^s) / (1 - prior), e^floor). A share `prior` of the drawn negatives are true
    answers. Their contribution to the mean is estimated by the positive's e^s and subtracted. Where e^floor is the
    larger, negatives have no gradient.

    Args:
        prior: the probability that a negative is a missing fact, tau of the paper; above 0 and below 1.
        floor: the least value of log g. In the paper, with bounded scores, it is -1 / temperature. Here take about the
            score of an easy negative.
        hardness: at least 0. Negatives are weighted in the mean by the softmax of hardness * s(negative), without
            gradient; 0 gives all the same weight.
    """

    def __init__(self, *, prior: float, floor: float, hardness: float) -> None:
        if not 0 < prior < 1:
            raise InputError(f"loss.prior must be above 0 and below 1, got {prior}")
        if hardness < 0:
            raise InputError(f"loss.hardness must be at least 0, got {hardness}")
        super().__init__()
        self.prior = prior
        self.floor = floor
        self.hardness = hardness

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        kept = scores.kept()
        mean = log_mean_exp(scores.negative, kept, self.hardness)
        of_true = log_difference(mean, math.log(self.prior) + scores.positive) - math.log1p(-self.prior)
        count = kept.sum(1, dtype=scores.negative.dtype)
        negative = count.clamp(min=1).log() + of_true.clamp(min=self.floor)
        return softplus(negative - scores.positive).masked_fill(count == 0, 0.0)
