"""Numbers as arguments of kernels. Triton rounds a Python float to float32, so they travel as the bits of a float64.

Or a kernel is given where a number lies: a tensor of one float64, or int64. A CUDA graph repeats a kernel with the
arguments that it had, so the numbers that change from step to step are given like this.
"""

import struct
from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor


def bits(number: float | Tensor) -> int | Tensor:
    """The bits of a number, as an int64; or the tensor that it lies in."""
    return number if isinstance(number, Tensor) else struct.unpack("q", struct.pack("d", number))[0]


@triton.jit
@no_type_check
def number(word, like):
    """The number with these bits, or that lies there, in the type of `like`."""
    if word.dtype.is_ptr():
        return tl.load(word).to(like.dtype)
    return tl.cast(word, tl.int64).to(tl.float64, bitcast=True).to(like.dtype)


@triton.jit
@no_type_check
def integer(word):
    """The integer that was given, or that lies there, as int64."""
    if word.dtype.is_ptr():
        return tl.load(word)
    return tl.cast(word, tl.int64)
