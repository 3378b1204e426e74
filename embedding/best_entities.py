"""Keeps the entities of highest value while blocks of entities are added."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.functional import pad


class BestEntities:
    """The entities of highest value of each query, among those added so far, best first.

    `entity` and `value` are [Q, k], where k is `count`, or the number of entities added if that is smaller.
    """

    def __init__(self, queries: int, count: int, device: torch.device) -> None:
        self.count = count
        self.value: Float64[Tensor, "Q k"] = torch.empty((queries, 0), dtype=torch.float64, device=device)
        self.entity: Int64[Tensor, "Q k"] = torch.empty((queries, 0), dtype=torch.int64, device=device)

    def add(self, entity: Int64[Tensor, "*Q n"], value: Float64[Tensor, "Q n"]) -> None:
        """Adds a block: entities [n] for all queries, or [Q, n] for each query, with their values [Q, n]."""
        value, place = value.topk(min(self.count, value.shape[1]), dim=1)
        best = entity[place] if entity.ndim == 1 else entity.gather(1, place)
        value, found = torch.cat([self.value, value], dim=1), torch.cat([self.entity, best], dim=1)
        self.value, place = value.topk(min(self.count, value.shape[1]), dim=1)
        self.entity = found.gather(1, place)

    def filled(self) -> tuple[Int64[Tensor, "Q {self.count}"], Float64[Tensor, "Q {self.count}"]]:
        """Entities and values in exactly `count` columns; missing ones are entity 0 with value minus infinity."""
        missing = (0, self.count - self.entity.shape[1])
        return pad(self.entity, missing), pad(self.value, missing, value=-torch.inf)
