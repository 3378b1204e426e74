"""Counter-based random numbers as defined in graph/counter_random.py, computed in one pass (counter_random.cpp)."""

import torch
from jaxtyping import BFloat16, Bool, Float32, Float64, Int64
from torch import Tensor

from kernels.library import call
from kernels.shapes import expect_shape


def random_integers(stream: int, outer: Int64[Tensor, " C"], count: int, high: int) -> Int64[Tensor, "C count"]:
    """A uniform integer in [0, high) for each pair (outer[c], j), j = 0 .. count - 1."""
    out = torch.empty((len(outer), count), dtype=torch.int64)
    call("random_integers", stream, outer, out, len(outer), count, high, torch.get_num_threads())
    return out


def random_uniform(stream: int, outer: Int64[Tensor, " C"], count: int) -> Float64[Tensor, "C count"]:
    """A uniform number in (0, 1) for each pair (outer[c], j), j = 0 .. count - 1."""
    out = torch.empty((len(outer), count), dtype=torch.float64)
    call("random_uniform", stream, outer, out, len(outer), count, torch.get_num_threads())
    return out


def random_at_least(stream: int, outer: Int64[Tensor, " C"], count: int, least: float) -> Bool[Tensor, "C count"]:
    """Whether each number of `random_uniform` is at least `least`, which is in [0, 1]."""
    out = torch.empty((len(outer), count), dtype=torch.bool)
    call("random_at_least", stream, outer, out, len(outer), count, float(least), torch.get_num_threads())
    return out


def round_to_bfloat16(stream: int, outer: Int64[Tensor, " K"], rows: Float32[Tensor, "K W"]) -> BFloat16[Tensor, "K W"]:
    """What `embedding.rounding.rounded_at_random` defines, in one pass; `outer` is the entity of each row."""
    out = torch.empty(rows.shape, dtype=torch.bfloat16)
    expect_shape("outer", outer, len(rows))
    sizes = *rows.shape, torch.get_num_threads()
    call("round_to_bfloat16", stream, outer, rows, out.view(torch.int16), *sizes)
    return out


def permuted_places(
    place: Int64[Tensor, " K"], size: int, sides: tuple[int, int], streams: Int64[Tensor, " turns"]
) -> Int64[Tensor, " K"]:
    """What the permutation of graph/permutation.py has at each place, of a table of `sides` with a stream a turn."""
    out = torch.empty_like(place)
    call("permuted_places", place, out, len(place), streams, len(streams), *sides, size, torch.get_num_threads())
    return out
