"""Random numbers by counter: what graph/counter_random.py defines, in one pass (counter_random.cpp)."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kernels.library import call


def random_integers(stream: int, outer: Int64[Tensor, " C"], count: int, high: int) -> Int64[Tensor, "C count"]:
    """An integer in [0, high) for each pair of an outer number and 0 .. count - 1."""
    out = torch.empty((len(outer), count), dtype=torch.int64)
    call("random_integers", stream, outer, out, len(outer), count, high, torch.get_num_threads())
    return out


def random_uniform(stream: int, outer: Int64[Tensor, " C"], count: int) -> Float64[Tensor, "C count"]:
    """A number in (0, 1) for each such pair."""
    out = torch.empty((len(outer), count), dtype=torch.float64)
    call("random_uniform", stream, outer, out, len(outer), count, torch.get_num_threads())
    return out
