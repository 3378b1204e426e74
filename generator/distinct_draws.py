"""Draws without replacement from a softmax, and the policy gradient that they estimate.

Kool, van Hoof and Welling: Buy 4 REINFORCE samples, get a baseline for free! (ICLR 2019 workshop), and Estimating
gradients for discrete random variables by sampling without replacement (ICLR 2020).
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from generator.without_replacement import gumbel


def draw_distinct(
    log_prob: Float[Tensor, "B M"], uniform: Float64[Tensor, "B M"], count: int
) -> tuple[Int64[Tensor, "B N"], Float64[Tensor, " B"]]:
    """The places of `count` draws without replacement in the order in which they were drawn, and a threshold.

    The threshold is the largest perturbed log-probability of those not drawn (minus infinity if there are none). Given
    it, whether one place was drawn does not depend on the others.
    """
    perturbed = log_prob.double() + gumbel(uniform)
    value, place = perturbed.topk(min(count + 1, perturbed.shape[1]), dim=1)
    threshold = value[:, count] if value.shape[1] > count else torch.full_like(value[:, 0], -torch.inf)
    return place[:, :count].contiguous(), threshold


def policy_coefficients(
    log_prob: Float[Tensor, "B N"], threshold: Float64[Tensor, " B"], reward: Float[Tensor, "B N"]
) -> Float64[Tensor, "B N"]:
    """What to multiply each distinct draw's gradient of log p by, so that the sum's mean is that of E[reward].

    A place with probability p passes a threshold t with q = 1 - exp(-exp(log p - t)), so the draws weigh p / q. The
    baseline is the weighted sum of all draws' rewards; what a draw's own part of it adds to the mean is put back:
    p / q (r (1 - p + p / q) - sum_j p_j / q_j r_j). With every place drawn this is the exact gradient. Needs N >= 2.
    """
    log_prob, reward = log_prob.double(), reward.double()
    passes = -torch.expm1(-(log_prob - threshold[:, None]).exp())
    weight = log_prob.exp() / passes
    baseline = (weight * reward).sum(1, keepdim=True)
    return weight * (reward * (1 - log_prob.exp() + weight) - baseline)
