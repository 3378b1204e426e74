"""Complex products of rows that hold all real parts first, then all imaginary parts."""

import torch
from jaxtyping import Float
from torch import Tensor


def product(
    left: Float[Tensor, "*#b E"], right: Float[Tensor, "*#b E"], *, conjugate: bool = False
) -> Float[Tensor, "*b E"]:
    """left * right, or left * conj(right)."""
    real, imaginary = left.chunk(2, dim=-1)
    right_real, right_imaginary = right.chunk(2, dim=-1)
    if conjugate:
        right_imaginary = -right_imaginary
    products = real * right_real - imaginary * right_imaginary, real * right_imaginary + imaginary * right_real
    return torch.cat(products, dim=-1)
