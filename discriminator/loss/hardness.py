"""Log-space sums of losses that weight negatives by hardness and subtract an estimate of false negatives."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def log_mean_exp(score: Float[Tensor, "B N"], kept: Bool[Tensor, "B N"], hardness: float) -> Float[Tensor, " B"]:
    """log sum w e^score over the kept negatives of each row. The weights w are the softmax of hardness * score.

    Weights have no gradient. With hardness 0 it is the log of the mean. It is 0 in a row that keeps no negative.
    """
    score = score.masked_fill(~kept, 0.0)  # masked scores may be infinite
    counted = kept | ~kept.any(1, keepdim=True)  # a softmax over no negative would be nan, and its gradient too
    log_weight = (hardness * score.detach()).masked_fill(~counted, -torch.inf).log_softmax(1)
    return torch.where(kept.any(1), (score + log_weight).logsumexp(1), 0.0)


def log_difference(first: Float[Tensor, " B"], second: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """log(e^first - e^second); minus infinity, without gradient, where first <= second."""
    gap = second - first
    negative = gap >= 0  # false for nan, so that nan stays nan
    gap = gap.masked_fill(negative, -1.0)
    return (first + torch.log(-torch.expm1(gap))).masked_fill(negative, -torch.inf)
