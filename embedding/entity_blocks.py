"""All rows of a table in the order of entity ids, a block at a time, on every rank."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
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


class BestEntities:
    """For each row the `count` entities of highest value among the blocks that it was shown, best first."""

    def __init__(self, rows: int, count: int, device: torch.device) -> None:
        self.count = count
        self.value = torch.empty((rows, 0), dtype=torch.float64, device=device)
        self.entity: Int64[Tensor, "Q k"] = torch.empty((rows, 0), dtype=torch.int64, device=device)

    def add(self, entity: Int64[Tensor, " n"], value: Float64[Tensor, "Q n"]) -> None:
        """Takes the values of a block."""
        value, place = value.topk(min(self.count, len(entity)), dim=1)
        value, found = torch.cat([self.value, value], dim=1), torch.cat([self.entity, entity[place]], dim=1)
        self.value, place = value.topk(min(self.count, value.shape[1]), dim=1)
        self.entity = found.gather(1, place)
