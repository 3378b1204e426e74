"""Debiased contrastive loss (Chuang et al., NeurIPS 2020), with hardness weights (Robinson et al., ICLR 2021)."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.hardness import log_difference, log_mean_exp
from discriminator.loss.loss import Loss, Scores
from graph.errors import InputError


class Debiased(Loss):
    """-log of e^s / (e^s + N g) for a positive of score s and its N negatives.

    g = max((mean of e^s(negative) - prior e^s) / (1 - prior), e^floor): negatives are drawn from all entities, of which
    a share `prior` answers the query; what such answers would contribute, judged by the positive, is taken away. Where
    the floor holds, negatives have no gradient.

    Args:
        prior: the probability that a negative is a fact that is missing, tau of the paper; above 0 and below 1.
        floor: the least that the log of the mean is taken for, -1 / temperature of the paper's bounded scores; for a
            graph, about the score of a poor negative.
        hardness: a negative weighs in the mean by the softmax of hardness * s(negative), without gradient; 0 weighs all
            the same.
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
