"""Draws some of many things without replacement, as a function of a name and a seed alone."""

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import random_bits, stream


def distinct_sample(name: str, size: int, count: int, seed: int) -> Int64[Tensor, " S"]:
    """`count` of the numbers below `size`, ascending, each equally likely; all of them if there are no more.

    Args:
        name: samples of different names do not depend on each other.
    """
    bits = random_bits(stream(name, seed), torch.arange(size))
    return bits.argsort(stable=True)[:count].sort().values
