"""Counter-based random numbers as defined in graph/counter_random.py, bit for bit those of counter_random.cpp."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float64, Int64
from torch import Tensor

from kernels.gpu.numbers import integer

_BLOCK = 1024


@triton.jit
@no_type_check
def _mix(word):
    word += 0x9E3779B97F4A7C15
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB
    return word ^ (word >> 31)


@triton.jit(do_not_specialize=["stream", "high"])
@no_type_check
def _random(outer, out, total, count, stream, high, UNIFORM: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < total
    key = _mix(tl.load(outer + place // count, mask=inside, other=0).to(tl.uint64, bitcast=True))
    inner = (place % count).to(tl.uint64, bitcast=True)
    bits = _mix(_mix(key ^ inner) ^ integer(stream).to(tl.uint64, bitcast=True))
    if UNIFORM:
        value = ((bits >> 12).to(tl.int64, bitcast=True).to(tl.float64) + 0.5) * 2.220446049250313e-16  # 2^-52
    else:
        value = (bits >> 1).to(tl.int64, bitcast=True) % tl.cast(high, tl.int64)
    tl.store(out + place, value, mask=inside)


def random_integers(
    stream: int | Tensor, outer: Int64[Tensor, " C"], count: int, high: int
) -> Int64[Tensor, "C count"]:
    """A uniform integer in [0, high) for each pair (outer[c], j), j = 0 .. count - 1.

    Args:
        stream: the key, or a tensor on the GPU that holds it.
    """
    return _filled(outer.new_empty((len(outer), count)), outer, stream, high)


def random_uniform(stream: int | Tensor, outer: Int64[Tensor, " C"], count: int) -> Float64[Tensor, "C count"]:
    """A uniform number in (0, 1) for each pair (outer[c], j), j = 0 .. count - 1; `stream` as above."""
    return _filled(outer.new_empty((len(outer), count), dtype=torch.float64), outer, stream, 1)


def _filled(out: Tensor, outer: Tensor, stream: int | Tensor, high: int) -> Tensor:
    if out.numel():
        blocks = triton.cdiv(out.numel(), _BLOCK)
        uniform = out.dtype == torch.float64
        _random[(blocks,)](
            outer.contiguous(), out, out.numel(), out.shape[1], stream, high, UNIFORM=uniform, BLOCK=_BLOCK
        )
    return out
