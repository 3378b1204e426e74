"""Draws again what turns out to be a train fact, so that negatives are unknown triples."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples

_ROUNDS = 20
"""Draws of an entity beyond the first one: where a tenth is unknown, a ninth of the negatives is known after them."""

Draw = Callable[[Batch, str], Int64[Tensor, "C N"]]
"""Negatives of some chunks; the text names the random numbers to take for them. Not Collective."""


def draw_unknown(
    known: KnownTriples, batch: Batch, draw: Draw, purpose: str
) -> tuple[Int64[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Independent draws given that they are unknown, and True where all rounds of a draw gave a known one.

    Only chunks that have a known negative are drawn for again, with random numbers of their round; so each negative is
    still a function of (seed, epoch, chunk), and has exactly the distribution of `draw` over what is unknown.

    Raises:
        InputError: positives share negatives, of which one may be known for some of them and not for others.
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
    """Raises InputError where positives share negatives."""
    if chunk_size > 1:
        raise InputError(
            "generator.redraw_known needs negatives of each positive's own, but trainer.chunk_size is "
            f"{chunk_size}: set it to 1, or generator.redraw_known to false and generator.mask_known to true"
        )
