"""What losses are made of that weigh negatives by their hardness and take away what may be facts; in logarithms."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def log_mean_exp(score: Float[Tensor, "B N"], kept: Bool[Tensor, "B N"], hardness: float) -> Float[Tensor, " B"]:
    """log sum w e^score over those kept; the weights w are the softmax of hardness * score and have no gradient.

    With hardness 0 the plain mean. 0 in a row that keeps none.
    """
    score = score.masked_fill(~kept, 0.0)  # what is masked may be infinite
    counted = kept | ~kept.any(1, keepdim=True)  # a softmax over nothing is nan, and so would its gradient be
    log_weight = (hardness * score.detach()).masked_fill(~counted, -torch.inf).log_softmax(1)
    return torch.where(kept.any(1), (score + log_weight).logsumexp(1), 0.0)


def log_difference(first: Float[Tensor, " B"], second: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """log(e^first - e^second); minus infinity, without gradient, where that is not positive."""
    gap = second - first
    negative = gap >= 0  # false for nan, which is to stay
    gap = gap.masked_fill(negative, -1.0)
    return (first + torch.log(-torch.expm1(gap))).masked_fill(negative, -torch.inf)
