"""Numbers as arguments of kernels. Triton rounds a Python float to float32, so they travel as the bits of a float64."""

import struct
from typing import no_type_check

import triton
import triton.language as tl


def bits(number: float) -> int:
    """The bits of a number, as an int64."""
    return struct.unpack("q", struct.pack("d", number))[0]


@triton.jit
@no_type_check
def number(word, like):
    """The number with these bits, in the type of `like`."""
    return tl.cast(word, tl.int64).to(tl.float64, bitcast=True).to(like.dtype)
