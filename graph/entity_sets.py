"""Many sets of entities in one tensor, for samplers that draw from a set for each relation or entity."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor

from graph.ranges import find_in_ranges
from kernels.gpu.available import is_on_gpu
from kernels.known import mask_known
from kernels.library import usable


@dataclass(frozen=True, eq=False)
class EntitySets:
    """Set s is `entity[offset[s]:offset[s + 1]]`, ascending and distinct. Ids are int32 to save half of the memory."""

    offset: Int64[Tensor, " S_plus_1"]
    entity: Int32[Tensor, " K"]

    def to(self, device: torch.device) -> "EntitySets":
        """The same sets on another device."""
        return EntitySets(self.offset.to(device), self.entity.to(device))

    def size(self, number: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """The number of entities in each of the sets `number`."""
        return self.offset[number + 1] - self.offset[number]

    def draw(self, number: Int64[Tensor, " B"], uniform: Float64[Tensor, "B N"]) -> Int64[Tensor, "B N"]:
        """Draws N entities with replacement from each of the sets `number`; -1 from an empty set.

        Args:
            uniform: random numbers in (0, 1), one for each draw.
        """
        size = self.size(number)[:, None]
        place = self.offset[number][:, None] + (uniform * size).long()
        if not len(self.entity):
            return torch.full_like(place, -1)
        return torch.where(size > 0, self.entity[place.clamp(max=len(self.entity) - 1)].long(), -1)

    def contains(self, number: Int64[Tensor, " B"], entity: Int64[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Whether each entity of row b is in the set `number[b]`."""
        if usable(entity):
            return mask_known(number, self.offset, self.entity, entity.contiguous())
        start, stop = self.offset[number][:, None], self.offset[number + 1][:, None]
        longest = self._most_entities if is_on_gpu(entity) else None
        start, stop = start.expand_as(entity), stop.expand_as(entity)
        return find_in_ranges(self.entity, start, stop, entity, longest=longest) >= 0

    @cached_property
    def _most_entities(self) -> int:
        """The entities of the largest set. The host waits for a GPU the first time only."""
        return int(self.offset.diff().max())
