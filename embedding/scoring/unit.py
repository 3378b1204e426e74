"""Vectors of length 1."""

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST = 1e-12


def unit(vector: Float[Tensor, "*b E"]) -> Float[Tensor, "*b E"]:
    """The vectors divided by their L2 norms; a vector of zeros stays zero."""
    return vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True).clamp(min=_LEAST)
