"""Draws without replacement from a softmax over a pool, and the policy gradient of such draws.

The gradient is the unordered set estimator, with its built-in baseline, of Kool, van Hoof and Welling: Estimating
gradients for discrete random variables by sampling without replacement (ICLR 2020).
"""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from graph.counter_random import gumbel
from kernels.largest import largest

_BLOCK_NUMBERS, _BLOCK_NUMBERS_ON_GPU = 1 << 18, 1 << 24
"""Numbers of an array that are worked on at a time: on a CPU so few that they stay in the cache."""
LAST = -1e300
"""The value of a candidate to be chosen only if there are too few others. It is above minus infinity."""


def repeated(entity: Int64[Tensor, "C M"]) -> Bool[Tensor, "C M"]:
    """True where the same entity stands earlier in the row."""
    ascending, order = entity.sort(dim=1, stable=True)
    again = torch.zeros_like(ascending, dtype=torch.bool)
    again[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    return torch.empty_like(again).scatter_(1, order, again)


def draw_distinct(
    log_prob: Float[Tensor, "B M"], uniform: Float64[Tensor, "B M"], count: int
) -> Int64[Tensor, "B {count}"]:
    """The columns of `count` draws without replacement, in the order of the draws."""
    return largest(log_prob.double() + gumbel(uniform), count).contiguous()


def policy_coefficients(log_prob: Float[Tensor, "B N"], reward: Float[Tensor, "B N"]) -> Float64[Tensor, "B N"]:
    """The coefficient of each distinct draw's gradient of log p in an unbiased estimate of the gradient of E[reward].

    The estimate is sum_i coefficient_i * gradient of log p_i. Each draw is weighted by the probability that it was the
    first, given the set of draws. No estimator from these draws that ignores their order has less variance. The
    baseline of a draw is the same estimate from the other draws. If every candidate is drawn, the estimate is the exact
    gradient. Needs N >= 2.

    The probability of a set S, with r the probability of all other candidates, is the integral over x > 0 of
    exp(-x) prod_{s in S} (1 - exp(-x p_s / r)). To take a member out of S, leave out its factor.

    Args:
        log_prob: log-probabilities of the draws, in the softmax over all candidates.
        reward: the reward of each draw.
    """
    # The integral over log x between these limits misses 1e-7 of the whole. Over log x, the integrand has a width of at
    # least 1 / sqrt(N) and falls to 0 at both ends. So a step of 1 / sqrt(N), at most 0.35, has about the same error.
    count, device = log_prob.shape[1], log_prob.device
    step = min(0.35, count**-0.5)
    log_x = torch.arange(-16.0, math.log(40 + 3 * count), step, dtype=torch.float64, device=device)
    size = max(1, (_BLOCK_NUMBERS if device.type == "cpu" else _BLOCK_NUMBERS_ON_GPU) // (count * len(log_x)))
    rows = zip(log_prob.split(size), reward.split(size), strict=True)
    return torch.cat([_coefficients(*each, log_x) for each in rows])


def _coefficients(
    log_prob: Float[Tensor, "b N"], reward: Float[Tensor, "b N"], log_x: Float64[Tensor, " X"]
) -> Float64[Tensor, "b N"]:
    """The same for some rows, with the places at which integrals are taken."""
    p, reward = log_prob.double().exp().clamp(min=1e-300), reward.double()
    rest = (1 - p.sum(1, keepdim=True)).clamp(min=0)
    larger = torch.maximum(p, rest)
    ratio = p / rest.clamp(min=1e-300)
    # Factors are divided by p / max(p, r), so that small ones do not round to 0.
    factor = torch.expm1(-ratio[:, :, None] * log_x.exp()) / (-p / larger)[:, :, None]
    integrand = (log_x - log_x.exp() + factor.log().sum(1)).softmax(1)[:, :, None]
    inverse = factor.reciprocal_()
    weight = larger * (inverse @ integrand)[:, :, 0]
    # The sum over the other draws of: the probability that this draw was first and the other second, times the other's
    # reward.
    of_all = inverse.mT @ (larger * reward)[:, :, None]
    other = (inverse @ (integrand * of_all))[:, :, 0]
    other = larger * (other - larger * reward * (inverse.square_() @ integrand)[:, :, 0])
    return weight * reward * (1 - p) - other
