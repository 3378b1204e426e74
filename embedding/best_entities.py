"""Keeps the entities of highest value while blocks of entities are added."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import pad

from kernels.largest import largest


class BestEntities:
    """The entities of highest value of each query, among those added so far, best first.

    Of entities with equal values, those with lower ids come first. So the result does not depend on the order of the
    blocks, nor on which rank has which entity.

    `entity` and `value` are [Q, k], where k is `count`, or the number of entities added if that is smaller.
    """

    def __init__(self, queries: int, count: int, device: torch.device) -> None:
        self.count = count
        self.value: Float64[Tensor, "Q k"] = torch.empty((queries, 0), dtype=torch.float64, device=device)
        self.entity: Int64[Tensor, "Q k"] = torch.empty((queries, 0), dtype=torch.int64, device=device)

    def add(self, entity: Int64[Tensor, "*Q n"], value: Float[Tensor, "Q n"]) -> None:
        """Adds a block: entities [n] for all queries, or [Q, n] for each query, with their values [Q, n].

        No value may be nan.
        """
        if not value.shape[1] or not self.count:
            return
        if self.value.shape[1] < self.count:
            self.value, self.entity = self._merged(self.value, self.entity, value, entity)
            return
        # After some blocks, few queries find a better entity in a block. The largest value of each row is known a
        # hundred times faster than the largest `count` values.
        (row,) = torch.nonzero(value.amax(1) >= self.value[:, -1], as_tuple=True)
        if len(row):
            of_row = entity if entity.ndim == 1 else entity[row]
            self.value[row], self.entity[row] = self._merged(self.value[row], self.entity[row], value[row], of_row)

    def _merged(
        self,
        value: Float64[Tensor, "q k"],
        entity: Int64[Tensor, "q k"],
        more_value: Float[Tensor, "q n"],
        more_entity: Int64[Tensor, "*q n"],
    ) -> tuple[Float64[Tensor, "q m"], Int64[Tensor, "q m"]]:
        more_entity = more_entity.expand(more_value.shape)
        if more_value.shape[1] > self.count:
            more_value, more_entity = _best(more_value, more_entity, self.count)
        value, entity = torch.cat([value, more_value], dim=1), torch.cat([entity, more_entity], dim=1)
        return _best(value, entity, min(self.count, value.shape[1]))

    def filled(self) -> tuple[Int64[Tensor, "Q {self.count}"], Float64[Tensor, "Q {self.count}"]]:
        """Entities and values in exactly `count` columns; missing ones are entity 0 with value minus infinity."""
        missing = (0, self.count - self.entity.shape[1])
        return pad(self.entity, missing), pad(self.value, missing, value=-torch.inf)


def _best(
    value: Float[Tensor, "q n"], entity: Int64[Tensor, "q n"], count: int
) -> tuple[Float[Tensor, "q {count}"], Int64[Tensor, "q {count}"]]:
    """The `count` best values of each row and their entities, best first, of equal ones those of lower ids first."""
    place = largest(value, min(count + 1, value.shape[1]))
    best = value.gather(1, place)
    # topk takes and orders equal values as it likes. Most rows have none among their best.
    (tied,) = torch.nonzero((best[:, :-1] == best[:, 1:]).any(1), as_tuple=True)
    place = place[:, :count]
    if len(tied):
        by_id = entity[tied].argsort(dim=1)
        by_value = value[tied].gather(1, by_id).argsort(dim=1, descending=True, stable=True)
        place[tied] = by_id.gather(1, by_value)[:, :count]
    return value.gather(1, place), entity.gather(1, place)
