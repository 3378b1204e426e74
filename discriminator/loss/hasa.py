"""HaSa (Zhang et al., HaSa: hardness and structure-aware contrastive knowledge graph embedding, WWW 2024, arXiv
2305.10563): hard negatives weigh more, and what negatives near the query contribute as likely facts is taken away."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.hardness import log_difference, log_mean_exp
from discriminator.loss.loss import Loss, Scores, no_suspects
from graph.errors import InputError


class HaSa(Loss):
    """-log of e^p / (e^p + M / (1 - prior) max(H - prior F, 0)), p the positive's score less a margin.

    H = sum w e^s over its M negatives, w the softmax of hardness * s; F the same over those of them that the generator
    suspects of being facts (`Negatives.suspected`), 0 if it suspects none. Weights have no gradient. Known facts count
    nowhere. Where H is below prior F the loss is 0, as in the paper; `Debiased` has a floor instead.

    The authors' code differs: its M is the width of a vector instead of the number of negatives, the suspected are
    mostly those of other queries, and its prior of 1e-4 or less makes F of no account. It also divides a query's scores
    by their norm before the softmax, so that weights depend on M; hardness is instead of that.

    Args:
        margin: subtracted from the positive's score; at least 0.
        prior: the probability that a negative is a fact that is missing, tau of the paper; above 0 and below 1.
        hardness: multiplies scores before the softmax that weighs negatives; 0 weighs all the same.
    """

    def __init__(self, *, margin: float, prior: float, hardness: float) -> None:
        for key, value in (("margin", margin), ("hardness", hardness)):
            if value < 0:
                raise InputError(f"loss.{key} must be at least 0, got {value}")
        if not 0 < prior < 1:
            raise InputError(f"loss.prior must be above 0 and below 1, got {prior}")
        super().__init__()
        self.margin = margin
        self.prior = prior
        self.hardness = hardness

    @property
    def needs_suspects(self) -> bool:
        """See `Loss.needs_suspects`."""
        return True

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`; InputError if the sampler suspects nothing."""
        if scores.suspected is None:
            raise no_suspects("loss=hasa")
        kept = scores.kept()
        suspected = kept & scores.suspected
        likely = math.log(self.prior) + log_mean_exp(scores.negative, suspected, self.hardness)
        likely = likely.masked_fill(~suspected.any(1), -torch.inf)
        hard = log_difference(log_mean_exp(scores.negative, kept, self.hardness), likely)
        count = kept.sum(1, dtype=scores.negative.dtype)
        negative = count.clamp(min=1).log() - math.log1p(-self.prior) + hard
        return softplus(negative - (scores.positive - self.margin)).masked_fill(count == 0, 0.0)
