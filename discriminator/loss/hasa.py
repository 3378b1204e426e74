"""HaSa (Zhang et al., HaSa: hardness and structure-aware contrastive knowledge graph embedding, WWW 2024, arXiv
2305.10563): hard negatives weigh more, and the contribution of suspected missing facts is subtracted."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.hardness import log_difference, log_mean_exp
from discriminator.loss.loss import Loss, Scores, no_suspects
from graph.errors import InputError


class HaSa(Loss):
    """-log(e^p / (e^p + M / (1 - prior) max(H - prior F, 0))), with p the positive's score minus a margin.

    H = sum w e^s over the M negatives of the positive, with w the softmax of hardness * s. F is the same sum over the
    negatives that the sampler suspects of being missing facts (`Negatives.suspected`); 0 if there are none. Weights
    have no gradient. Negatives marked in `Negatives.known` are left out of M, H and F. Where H < prior F the loss is 0,
    as in the paper; `Debiased` has a floor instead.

    The authors' code differs. Its M is the width of a vector, its suspected negatives mostly belong to other queries,
    and its prior of at most 1e-4 makes F negligible. It divides a query's scores by their norm before the softmax, so
    that weights depend on M; here `hardness` scales them.

    Args:
        margin: subtracted from the positive's score; at least 0.
        prior: the probability that a negative is a missing fact, tau of the paper; above 0 and below 1.
        hardness: multiplies scores before the softmax that gives the weights; at least 0; 0 gives equal weights.
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
        """See `Loss.forward`; raises InputError if the sampler does not mark suspected negatives."""
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
