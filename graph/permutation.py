"""Permutations of 0 .. size - 1 that are computed place by place, so that no list of them is stored."""

import math

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import paired_integers, stream
from kernels.block_sizes import numbers_at_a_time
from kernels.counter_random import permuted_places
from kernels.library import usable

_TURNS = 6
"""With 4 turns of a random function, a Feistel network is a permutation that looks random (Luby and Rackoff, 1988)."""
_BLOCK = 1 << 14
"""Places that a CPU computes at a time, so few that they stay in its cache."""


def permuted(place: Int64[Tensor, " K"], size: int, key: int) -> Int64[Tensor, " K"]:
    """What a permutation of 0 .. size - 1, chosen by `key`, has at each place.

    A Feistel network permutes the cells of a table of nearly equal sides, whose cells are numbered row by row (Black
    and Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002). The table has few cells more than `size`; a place
    that comes to one of these is permuted again until it does not.
    """
    rows = math.isqrt(size - 1) + 1
    sides = rows, -(-size // rows)
    streams = [stream("turn of a permutation", key, turn) for turn in range(_TURNS)]
    if usable(place):
        return permuted_places(place.contiguous(), size, sides, torch.tensor(streams))
    blocks = [_feistel(block, sides, streams) for block in place.split(numbers_at_a_time(_BLOCK, place.device))]
    number = torch.cat(blocks)
    while len(above := (number >= size).nonzero()[:, 0]):
        number[above] = _feistel(number[above], sides, streams)
    return number


def _feistel(number: Int64[Tensor, " K"], sides: tuple[int, int], streams: list[int]) -> Int64[Tensor, " K"]:
    cell = [number // sides[1], number % sides[1]]
    for turn, key in enumerate(streams):
        moved, other = turn % 2, 1 - turn % 2
        shift = paired_integers(key, cell[other], 1, sides[moved])[:, 0]
        cell[moved] = (cell[moved] + shift) % sides[moved]
    return cell[0] * sides[1] + cell[1]
