"""Rounds rows of float32 to bfloat16 at random, so that what is lost is 0 on average.

A row in bfloat16 has 8 binary digits. A step that changes a number by less than half of its last digit is lost if it is
rounded to nearest, in every step anew; rounded up with the probability that its rest says, many small steps add up
(Gupta et al., Deep learning with limited numerical precision, ICML 2015).

Random numbers are a function of a key and of (entity, column), never of the row's place or its rank. So a run is the
same on every number of ranks, and after a resume.
"""

from enum import StrEnum

import torch
from jaxtyping import BFloat16, Float32, Int64
from torch import Tensor

from graph.counter_random import paired_integers
from kernels.counter_random import round_to_bfloat16
from kernels.library import usable

_BITS = 16
"""Bits of a float32 that bfloat16 does not have: the last ones of its fraction."""
_OF_A_WORD = 3
"""Columns that share a random word: each takes 16 of its bits."""


class Rounding(StrEnum):
    """How rows of float32 are written to a table of bfloat16."""

    STOCHASTIC = "stochastic"
    NEAREST = "nearest"


def rounded_at_random(rows: Float32[Tensor, "K W"], key: int, entity: Int64[Tensor, " K"]) -> BFloat16[Tensor, "K W"]:
    """The rows in bfloat16: each number is one of its two neighbours, and is itself on average.

    A number that bfloat16 has stays what it is; nan and infinities do, too.

    Args:
        key: of the stream of random numbers, see `graph.counter_random.stream`.
        entity: the entity of each row.
    """
    if usable(rows, entity):
        return round_to_bfloat16(key, entity.contiguous(), rows.contiguous())
    (count, width), words = rows.shape, -(-rows.shape[1] // _OF_A_WORD)
    drawn = paired_integers(key, entity, words, 1 << _BITS * _OF_A_WORD)
    # A word of 64 bits is four of 16, the lowest first, of which the last is empty.
    parts = drawn.view(torch.int16).view(count, words, 4)[:, :, :_OF_A_WORD].reshape(count, -1)[:, :width]
    raised = rows.contiguous().view(torch.int32) + (parts.int() & ((1 << _BITS) - 1))
    upper = raised.view(torch.int16).view(count, width, 2)[:, :, 1].contiguous()
    return torch.where(rows.isfinite(), upper.view(torch.bfloat16), rows.bfloat16())
