"""All rows of a table on every rank, block by block, in the order of entity ids."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.model import KGEModel

BLOCK_ROWS = 2048


def entity_blocks(model: KGEModel) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n E"]]]:
    """Yields (entity ids, rows) of each block, without gradient; the same on every rank.

    The blocks do not depend on the number of ranks. So results computed from them are bit-equal at any number of ranks
    and need no exchange. Each pass sends the whole table to every rank: use it for work that is rare, or long compared
    with that. Collective: every rank must take all blocks.
    """
    num_entities = len(model.entity.row_of_entity)
    for start in range(0, num_entities, BLOCK_ROWS):
        entity = torch.arange(start, min(start + BLOCK_ROWS, num_entities), device=model.site.device)
        with torch.no_grad():
            rows = model.entity(entity)
        yield entity, rows
