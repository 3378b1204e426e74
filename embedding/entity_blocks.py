"""All rows of a table in the order of entity ids, a block at a time, on every rank."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.model import KGEModel

BLOCK_ROWS = 2048


def entity_blocks(model: KGEModel) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n E"]]]:
    """(entity ids, their rows), without gradient; the same on every rank.

    What is made of them needs no exchange and is bit-equal at every number of ranks: no product is cut where a rank's
    rows end. Each pass sends the whole table to every rank, so it is for what is done now and then, or does much with
    each row. Collective: every rank must take all blocks.
    """
    num_entities = len(model.entity.row_of_entity)
    for start in range(0, num_entities, BLOCK_ROWS):
        entity = torch.arange(start, min(start + BLOCK_ROWS, num_entities), device=model.site.device)
        with torch.no_grad():
            rows = model.entity(entity)
        yield entity, rows
