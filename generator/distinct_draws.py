"""Draws without replacement from a softmax, and the policy gradient that they estimate.

Kool, van Hoof and Welling: Estimating gradients for discrete random variables by sampling without replacement (ICLR
2020), the unordered set estimator with its built-in baseline.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from generator.without_replacement import gumbel

_STEP = 0.25
_FROM, _TO = -20.0, 4.0
"""Between these, in the logarithm of the variable of integration, lies all but 1e-8 of the integrals."""


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
    p, reward = log_prob.double().exp(), reward.double()
    rest = (1 - p.sum(1, keepdim=True)).clamp(min=0)
    larger = torch.maximum(p, rest)
    ratio = p / rest.clamp(min=1e-300)
    log_x = torch.arange(_FROM, _TO, _STEP, dtype=torch.float64, device=p.device)
    # A factor is divided by p / max(p, r), so that the product of many small ones is no zero.
    factor = -torch.expm1(-ratio[:, :, None] * log_x.exp()) / (p / larger)[:, :, None]
    integrand = (log_x - log_x.exp()).exp() * factor.prod(1)
    integrand = integrand / integrand.sum(1, keepdim=True)
    without = integrand[:, None] / factor
    weight = larger * without.sum(2)
    pair = larger[:, :, None] * larger[:, None] * (without @ (1 / factor).mT)
    pair.diagonal(dim1=1, dim2=2).copy_(p * weight)
    return weight * reward - (pair @ reward[:, :, None])[:, :, 0]
