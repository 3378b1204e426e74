"""Matrix products with rounded factors, for the tensor cores of GPUs and the bfloat16 instructions of processors.

Each number is a product of two rounded factors, summed in float32. TF32 keeps 10 bits of a factor's fraction, bfloat16
7, float32 23; all three have float32's range. So a rounded factor is off by 2^-11 or 2^-8 of itself at most.

TF32 is chosen for one product at a time, and torch's own setting is as it was afterwards: no other product of the
process, such as those of ranking, is rounded because some are. A CPU has no TF32: there, factors are rounded as a GPU
rounds them, and the product takes float32's time and a bit more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.gpu.available import is_on_gpu

_DROPPED = 13
"""Bits of a float32's fraction that TF32 does not have."""


class Precision(StrEnum):
    """What the factors of a product are rounded to."""

    FLOAT32 = "float32"
    """Nothing: they keep their own type."""
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"


def lowered(factor: Float[Tensor, "*s"], precision: Precision) -> Float[Tensor, "*s"]:
    """A factor of `multiplied`, rounded to nearest, in the type that the product takes."""
    if precision == Precision.FLOAT32:
        return factor
    if precision == Precision.BFLOAT16:
        rounded = factor.bfloat16()
        return rounded if is_on_gpu(factor) or has_bfloat16() else rounded.float()
    return factor.float() if is_on_gpu(factor) else tf32(factor.float())


def multiplied(
    left: Float[Tensor, "C S E"],
    right: Float[Tensor, "C E N"],
    precision: Precision,
    plus: Float[Tensor, "C S N"] | None = None,
) -> Float[Tensor, "C S N"]:
    """One matrix product for each chunk.

    Args:
        left, right: from `lowered`, with this precision.
        plus: the product is added to it, in place, and it is returned.
    Returns:
        The products in float32; without rounding in the factors' type. A CPU rounds products of bfloat16 to bfloat16.
    """
    if precision == Precision.TF32 and is_on_gpu(left):
        with _tf32_products():
            return _bmm(left, right, plus)
    if precision == Precision.BFLOAT16 and left.dtype == torch.bfloat16:
        on_gpu = is_on_gpu(left)
        made = torch.bmm(left, right, out_dtype=torch.float32) if on_gpu else torch.bmm(left, right).float()
        return made if plus is None else plus.add_(made)
    return _bmm(left, right, plus)


def tf32(value: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Numbers of float32, rounded to the nearest that TF32 has; of two that are as near, to the even one."""
    bits = value.view(torch.int32)
    half_less_one = (1 << (_DROPPED - 1)) - 1
    rounded = bits + half_less_one + ((bits >> _DROPPED) & 1)
    rounded = (rounded >> _DROPPED << _DROPPED).view(torch.float32)
    return torch.where(value.isfinite(), rounded, value)


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32. Others take many times as long."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _bmm(left: Tensor, right: Tensor, plus: Tensor | None) -> Tensor:
    if plus is None:
        return torch.bmm(left, right)
    if plus.dtype != left.dtype:  # rows in float64
        return plus.add_(torch.bmm(left, right))
    return torch.baddbmm(plus, left, right, out=plus)


@contextmanager
def _tf32_products() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before
