"""Parts of kernels that compare a query with rows: the score, and the pull of a score's gradient on either of them."""

from typing import no_type_check

import triton
import triton.language as tl

DOT: tl.constexpr = tl.constexpr(0)
L1: tl.constexpr = tl.constexpr(1)
L2: tl.constexpr = tl.constexpr(2)
MODULUS: tl.constexpr = tl.constexpr(3)
"""`Comparison.number`."""


@triton.jit
@no_type_check
def load_rows(rows, row, inside, e, here, width):
    """The numbers `e` of some rows, as a block [rows, numbers]; 0 outside."""
    return tl.load(rows + row[:, None] * width + e[None, :], mask=inside[:, None] & here[None, :], other=0.0)


@triton.jit
@no_type_check
def scores(query, rows, row, inside, width, KIND: tl.constexpr, N: tl.constexpr, E: tl.constexpr):
    """The scores of the query at `query` with the rows `row`; those not `inside` have no meaning."""
    part = width // 2 if KIND == MODULUS else width
    total = tl.zeros((N,), dtype=query.dtype.element_ty)
    for start in range(0, part, E):
        e = start + tl.arange(0, E)
        here = e < part
        of_query = tl.load(query + e, mask=here, other=0.0)[None, :]
        of_row = load_rows(rows, row, inside, e, here, width)
        if KIND == DOT:
            total += tl.sum(of_query * of_row, 1)
        elif KIND == L1:
            total -= tl.sum(tl.abs(of_query - of_row), 1)
        elif KIND == L2:
            apart = of_query - of_row
            total += tl.sum(apart * apart, 1)
        else:
            apart = of_query - of_row
            turned = tl.load(query + part + e, mask=here, other=0.0)[None, :]
            turned -= load_rows(rows, row, inside, part + e, here, width)
            total -= tl.sum(tl.sqrt(apart * apart + turned * turned), 1)
    return -tl.sqrt(total) if KIND == L2 else total


@triton.jit
@no_type_check
def over_score(coefficient, score, KIND: tl.constexpr):
    """The factor of a difference in the gradient of coefficient * score."""
    # At distance 0 the difference is 0, and so is its product with any factor.
    return coefficient / tl.where(score == 0, 1.0, score) if KIND == L2 else coefficient


@triton.jit
@no_type_check
def pull(x, y, factor, KIND: tl.constexpr):
    """The gradient by x [1, numbers] of the scores of x with each y [others, numbers], summed; not for MODULUS.

    Scores depend on the difference alone, so this serves for queries as for rows. `factor`: from `over_score`.
    """
    if KIND == DOT:
        return tl.sum(factor[:, None] * y, 0)
    if KIND == L1:
        sign = tl.where(x > y, 1.0, 0.0) - tl.where(x < y, 1.0, 0.0)
        return -tl.sum(factor[:, None] * sign, 0)
    return tl.sum(factor[:, None] * (x - y), 0)


@triton.jit
@no_type_check
def pull_complex(x, turned_x, y, turned_y, factor):
    """For MODULUS: the gradients by the real and by the imaginary parts."""
    apart, turned = x - y, turned_x - turned_y
    modulus = tl.sqrt(apart * apart + turned * turned)
    scaled = factor[:, None] / tl.where(modulus == 0, 1.0, modulus)
    return -tl.sum(scaled * apart, 0), -tl.sum(scaled * turned, 0)
