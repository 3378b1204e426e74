"""The entities whose rows are closest to each entity's own."""

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.entity_blocks import BLOCK_ROWS, entity_blocks
from embedding.exchange import gather_ranks
from embedding.model import KGEModel


def _minus_squared_distance(query: Float64[Tensor, "Q D"], rows: Float64[Tensor, "n D"]) -> Float64[Tensor, "Q n"]:
    """Up to a number that is the same for all rows."""
    return 2 * (query @ rows.T) - rows.square().sum(1)


def _product(query: Float64[Tensor, "Q D"], rows: Float64[Tensor, "n D"]) -> Float64[Tensor, "Q n"]:
    return query @ rows.T


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": _minus_squared_distance, "dot": _product}
"""How close two rows are, by name: higher is closer."""


@torch.no_grad()
def closest_entities(model: KGEModel, count: int, metric: str) -> Int64[Tensor, "E k"]:
    """For each entity the `count` others that are closest to it, closest first; count < E.

    Takes E^2 products of rows in float64, divided among the ranks; every rank then holds the whole. Collective.
    """
    site, num_entities = model.site, len(model.entity.row_of_entity)
    found = []
    for first in range(0, num_entities, BLOCK_ROWS * site.world_size):
        start = min(first + site.rank * BLOCK_ROWS, num_entities)
        entity = torch.arange(start, min(start + BLOCK_ROWS, num_entities), device=site.device)
        query = model.entity(entity).double()
        closest = BestEntities(len(entity), count, site.device)
        for other, rows in entity_blocks(model):
            closeness = METRICS[metric](query, rows.double())
            if other[0] == start:
                closeness.fill_diagonal_(-torch.inf)  # blocks begin alike: each entity beside itself
            closest.add(other, closeness)
        found += gather_ranks(closest.entity, site.world_size)
    return torch.cat(found)
