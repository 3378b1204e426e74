"""Draws some of many things without replacement, as a function of a name and a seed alone."""

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import random_bits, stream

_BLOCK = 1 << 20
"""Numbers that are compared at a time."""


def distinct_sample(name: str, size: int, count: int, seed: int) -> Int64[Tensor, " S"]:
    """`count` of the numbers below `size`, ascending, each equally likely; all of them if there are no more.

    Args:
        name: samples of different names do not depend on each other.
    """
    return in_random_order(name, size, count, seed).sort().values


def in_random_order(name: str, size: int, count: int, seed: int) -> Int64[Tensor, " S"]:
    """The first `count` of the numbers below `size` in a random order. Memory grows with `count`, not with `size`.

    Args:
        name: orders of different names do not depend on each other.
    """
    key = stream(name, seed)
    bits = number = torch.empty(0, dtype=torch.int64)
    for first in range(0, size, _BLOCK):
        block = torch.arange(first, min(first + _BLOCK, size))
        bits, number = torch.cat([bits, random_bits(key, block)]), torch.cat([number, block])
        order = bits.argsort(stable=True)[:count]
        bits, number = bits[order], number[order]
    return number
