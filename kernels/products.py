"""Products of complex numbers, row by row (products.cpp)."""

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.library import call, type_name, usable


def complex_product(
    left: Float[Tensor, "B E"], right: Float[Tensor, "B E"], *, conjugate: bool
) -> Float[Tensor, "B E"]:
    """left * right, or left * conj(right); a row holds all real parts first, then all imaginary parts."""
    if usable(left, right):
        left, right = left.contiguous(), right.contiguous()
        out = torch.empty_like(left)
        sizes = len(left), left.shape[1] // 2, conjugate, torch.get_num_threads()
        call(f"complex_product_{type_name(left)}", left, right, out, *sizes)
        return out
    real, imaginary = left.chunk(2, dim=-1)
    right_real, right_imaginary = right.chunk(2, dim=-1)
    if conjugate:
        right_imaginary = -right_imaginary
    products = real * right_real - imaginary * right_imaginary, real * right_imaginary + imaginary * right_real
    return torch.cat(products, dim=-1)
