"""For each entity, the entities with the closest rows."""

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.entity_blocks import BLOCK_ROWS, entity_blocks
from embedding.exchange import gather_ranks
from embedding.model import KGEModel


def _minus_squared_distance(query: Float64[Tensor, "Q D"], rows: Float64[Tensor, "n D"]) -> Float64[Tensor, "Q n"]:
    """Minus the squared distance, plus the squared norm of the query, which does not change the order."""
    return 2 * (query @ rows.T) - rows.square().sum(1)


def _product(query: Float64[Tensor, "Q D"], rows: Float64[Tensor, "n D"]) -> Float64[Tensor, "Q n"]:
    return query @ rows.T


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": _minus_squared_distance, "dot": _product}
"""Measures of closeness by name; higher is closer."""


@torch.no_grad()
def closest_entities(model: KGEModel, count: int, metric: str) -> Int64[Tensor, "E k"]:
    """For each entity the ids of the `count` closest other entities, closest first; count < E. Collective.

    Computes E^2 products of rows in float64, divided among the ranks. Every rank gets the whole result.

    Args:
        metric: a name of `METRICS`.
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
                closeness.fill_diagonal_(-torch.inf)  # here the diagonal is each entity with itself
            closest.add(other, closeness)
        found += gather_ranks(closest.entity, site.world_size)
    return torch.cat(found)
