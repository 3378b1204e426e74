"""What samplers share that choose from a pool without replacement."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

LAST = -1e300
"""The value of a candidate that is taken only where there are not enough others; minus infinity comes after it."""


def gumbel(uniform: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    """Noise that makes the k largest of (logit + noise) k draws from the softmax, without replacement, in order.

    Kool et al., Stochastic beams and where to find them, ICML 2019.
    """
    return -(-uniform.log()).log()


def repeated(entity: Int64[Tensor, "C M"]) -> Bool[Tensor, "C M"]:
    """True where a row has had the same entity before."""
    ascending, order = entity.sort(dim=1, stable=True)
    again = torch.zeros_like(ascending, dtype=torch.bool)
    again[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    return torch.empty_like(again).scatter_(1, order, again)
