"""Replaces negatives that are train facts by new draws."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples

_ROUNDS = 20
"""New draws for each negative at most. If 9 of 10 entities make a train fact, 0.9^21 = 11% of negatives still do."""

Draw = Callable[[Batch, str], Int64[Tensor, "C N"]]
"""Draws negatives for the chunks of a batch; the string names the stream of random numbers. Must not be Collective."""


def draw_unknown(
    known: KnownTriples, batch: Batch, draw: Draw, purpose: str
) -> tuple[Int64[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Draws negatives, and draws those that are train facts again, up to 20 times.

    A negative that is not a train fact has the distribution of `draw` given that the triple is not a train fact. Each
    round has its own random numbers, so a negative is still a function of (seed, epoch, chunk).

    Returns:
        entity, and True where all draws of a negative gave train facts.

    Raises:
        InputError: positives share negatives. One entity may make a train fact with one positive and not with another.
    """
    entity = draw(batch, purpose)
    if len(entity) < len(batch.head):
        refuse_shared(batch.chunk_size)
    is_known = known.contains(batch, entity)
    for number in range(1, _ROUNDS + 1):
        place = is_known.any(1).view(len(batch.chunk), batch.chunk_size).any(1).nonzero()[:, 0]
        if not len(place):
            break
        part = batch.selected(place)
        row = batch.slots(place)
        entity[row] = torch.where(is_known[row], draw(part, f"{purpose}, round {number}"), entity[row])
        is_known[row] = known.contains(part, entity[row])
    return entity, is_known


def refuse_shared(chunk_size: int) -> None:
    """Raises InputError if chunks have more than one positive, which then share negatives."""
    if chunk_size > 1:
        raise InputError(
            "generator.redraw_known needs separate negatives for each positive, but trainer.chunk_size is "
            f"{chunk_size}: set it to 1, or generator.redraw_known to false and generator.mask_known to true"
        )
