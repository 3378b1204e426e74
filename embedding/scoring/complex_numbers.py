"""Complex products of rows that hold all real parts first, then all imaginary parts; differentiable."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.products import complex_product


def product(
    left: Float[Tensor, "*#b E"], right: Float[Tensor, "*#b E"], *, conjugate: bool = False
) -> Float[Tensor, "*b E"]:
    """left * right, or left * conj(right)."""
    left, right = torch.broadcast_tensors(left, right)
    rows = cast(Tensor, _Product.apply(left.flatten(0, -2), right.flatten(0, -2), conjugate))
    return rows.view(left.shape)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, left: Tensor, right: Tensor, conjugate: bool) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.conjugate = conjugate  # pyright: ignore[reportAttributeAccessIssue]
        return complex_product(left, right, conjugate=conjugate)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        left, right = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        by_product = gradient[0]
        if ctx.conjugate:  # pyright: ignore[reportAttributeAccessIssue]
            by_right = complex_product(left, by_product, conjugate=True)
            return complex_product(by_product, right, conjugate=False), by_right, None
        by_right = complex_product(by_product, left, conjugate=True)
        return complex_product(by_product, right, conjugate=True), by_right, None
