"""Random numbers that are a pure function of a key, so they do not depend on ranks or on the order of calls.

The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
OOPSLA 2014), applied once per word of the key. It needs 64-bit arithmetic that wraps, as torch's int64 does.
"""

import zlib

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

import kernels.counter_random
from kernels.gpu.available import usable_on_gpu
from kernels.library import usable

StreamKey = int | Int64[Tensor, ""]
"""The key of a stream of random numbers: see `stream`. On a GPU it may be a tensor there."""
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word."""
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _mix_int(word: int) -> int:
    word = (word + _GOLDEN) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def _shift_right(word: Int64[Tensor, "*s"], bits: int) -> Int64[Tensor, "*s"]:
    # torch's >> on int64 copies the sign bit down; a hash needs zeros there.
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _mix(word: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
    word = word + _signed(_GOLDEN)
    word = (word ^ _shift_right(word, 30)) * _signed(0xBF58476D1CE4E5B9)
    word = (word ^ _shift_right(word, 27)) * _signed(0x94D049BB133111EB)
    return word ^ _shift_right(word, 31)


def stream(purpose: str, *key: int) -> int:
    """A 64-bit key from the name of a use and integers such as (seed, epoch). Each use has its own random numbers.

    Example: `random_uniform(stream("dropout", seed, epoch), torch.arange(10))` gives ten numbers in (0, 1).
    """
    word = zlib.crc32(purpose.encode())
    for part in key:
        word = _mix_int(word ^ (part & _MASK))
    return _signed(word)


def random_bits(stream_key: StreamKey, counter: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
    """64 random bits for each counter of a stream."""
    return _mix(_mix(counter) ^ stream_key)


def combine(outer: Int64[Tensor, "*s"], inner: Int64[Tensor, "*t"]) -> Int64[Tensor, "*u"]:
    """One counter for each pair of two broadcast tensors, such as (chunk, slot). Pairs collide with chance 2^-64."""
    return _mix(outer) ^ inner


def random_integers(stream_key: StreamKey, counter: Int64[Tensor, "*s"], high: int) -> Int64[Tensor, "*s"]:
    """Integers in [0, high), uniform up to a bias of high / 2^63."""
    return _shift_right(random_bits(stream_key, counter), 1) % high


def random_uniform(stream_key: StreamKey, counter: Int64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    """Uniform numbers in (0, 1), never 0 and never 1: (52 random bits + 0.5) / 2^52."""
    return (_shift_right(random_bits(stream_key, counter), 12).double() + 0.5) * 2.0**-52


def gumbel(uniform: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    """Gumbel noise from uniform numbers: the k largest of (logit + noise) are k draws from the softmax of the logits.

    They are drawn without replacement, the largest first (Kool et al., Stochastic beams and where to find them, ICML
    2019).
    """
    return -(-uniform.log()).log()


def paired_integers(
    stream_key: StreamKey, outer: Int64[Tensor, " C"], count: int, high: int
) -> Int64[Tensor, "C count"]:
    """`random_integers` for the counters combine(outer, inner), inner = 0 .. count - 1."""
    if usable(outer) and isinstance(stream_key, int):
        return kernels.counter_random.random_integers(stream_key, outer.contiguous(), count, high)
    if usable_on_gpu(outer):
        import kernels.gpu.counter_random as gpu

        return gpu.random_integers(stream_key, outer, count, high)
    return random_integers(stream_key, _pairs(outer, count), high)


def paired_uniform(stream_key: StreamKey, outer: Int64[Tensor, " C"], count: int) -> Float64[Tensor, "C count"]:
    """`random_uniform` for the counters combine(outer, inner), inner = 0 .. count - 1."""
    if usable(outer) and isinstance(stream_key, int):
        return kernels.counter_random.random_uniform(stream_key, outer.contiguous(), count)
    if usable_on_gpu(outer):
        import kernels.gpu.counter_random as gpu

        return gpu.random_uniform(stream_key, outer, count)
    return random_uniform(stream_key, _pairs(outer, count))


def paired_at_least(
    stream_key: StreamKey, outer: Int64[Tensor, " C"], count: int, least: float
) -> Bool[Tensor, "C count"]:
    """Whether each number of `paired_uniform` is at least `least`, in [0, 1]: so with probability 1 - least."""
    if usable(outer) and isinstance(stream_key, int):
        return kernels.counter_random.random_at_least(stream_key, outer.contiguous(), count, least)
    return paired_uniform(stream_key, outer, count) >= least


def _pairs(outer: Int64[Tensor, " C"], count: int) -> Int64[Tensor, "C count"]:
    return combine(outer[:, None], torch.arange(count, device=outer.device))
