"""Distinct entities of a pool, draws of them from a softmax, and the policy gradient that such draws estimate.

Kool, van Hoof and Welling: Estimating gradients for discrete random variables by sampling without replacement (ICLR
2020), the unordered set estimator with its built-in baseline.
"""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from graph.counter_random import gumbel

LAST = -1e300
"""The value of a candidate that is taken only where there are not enough others; minus infinity comes after it."""


def repeated(entity: Int64[Tensor, "C M"]) -> Bool[Tensor, "C M"]:
    """True where a row has had the same entity before."""
    ascending, order = entity.sort(dim=1, stable=True)
    again = torch.zeros_like(ascending, dtype=torch.bool)
    again[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    return torch.empty_like(again).scatter_(1, order, again)


def draw_distinct(
    log_prob: Float[Tensor, "B M"], uniform: Float64[Tensor, "B M"], count: int
) -> Int64[Tensor, "B {count}"]:
    """The places of `count` draws without replacement, in the order in which they were drawn."""
    return (log_prob.double() + gumbel(uniform)).topk(count, dim=1).indices.contiguous()


def policy_coefficients(log_prob: Float[Tensor, "B N"], reward: Float[Tensor, "B N"]) -> Float64[Tensor, "B N"]:
    """What to multiply each distinct draw's gradient of log p by, so that the sum's mean is the gradient of E[reward].

    Each draw counts by the chance that it came first, given which ones were drawn in whatever order: of all estimators
    from these draws that one varies least. The baseline of a draw is the same estimate from the others. With every
    place drawn the sum is the exact gradient. Needs N >= 2.

    The chance of a set S, with r what is left of the probability, is the integral over x > 0 of
    exp(-x) prod_s (1 - exp(-x p_s / r)); without some of its members, that without their factors.
    """
    p, reward = log_prob.double().exp().clamp(min=1e-300), reward.double()
    rest = (1 - p.sum(1, keepdim=True)).clamp(min=0)
    larger = torch.maximum(p, rest)
    ratio = p / rest.clamp(min=1e-300)
    # Between these limits of log x lies all but 1e-7 of the integral. What it sums is no narrower than the logarithm of
    # a sum of N exponential waits, 1 / sqrt(N), and dies off at both ends: steps of that size, or 0.35, err as little.
    step = min(0.35, p.shape[1] ** -0.5)
    log_x = torch.arange(-16.0, math.log(40 + 3 * p.shape[1]), step, dtype=torch.float64, device=p.device)
    # A factor is divided by p / max(p, r), so that small ones are no zeros.
    factor = -torch.expm1(-ratio[:, :, None] * log_x.exp()) / (p / larger)[:, :, None]
    integrand = (log_x - log_x.exp() + factor.log().sum(1)).softmax(1)
    inverse = 1 / factor
    without = integrand[:, None] * inverse
    weight = larger * without.sum(2)
    # Of two draws, the chance that one came first and the other second, times the other's reward; summed over others.
    other = (without * (inverse * (larger * reward)[:, :, None]).sum(1, keepdim=True)).sum(2)
    other = larger * (other - larger * reward * (without * inverse).sum(2))
    return weight * reward * (1 - p) - other
