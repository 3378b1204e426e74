"""The entities of each slot. A slot is a place of a relation: its head or its tail."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.entity_sets import EntitySets
from graph.statistics import RelationStatistics
from kernels.known import all_answers


@dataclass(frozen=True, eq=False)
class Slots:
    """The entities that train has in each slot. Slot r is the head of relation r, slot R + r is its tail.

    Example: `slots.entities(slots.tail(r))` are all entities that are a tail of relation r in train.
    """

    sets: EntitySets
    """2 R sets, one for each slot."""
    num_relations: int
    num_entities: int

    @classmethod
    def of(cls, seen: RelationStatistics) -> "Slots":
        """The slots of a graph, from the domains and ranges of its relations. Ids must fit int32."""
        offset = torch.cat([seen.domain_offset, len(seen.domain_entity) + seen.range_offset[1:]])
        entity = torch.cat([seen.domain_entity, seen.range_entity])
        return cls(EntitySets(offset, entity), len(seen.domain_offset) - 1, len(seen.entity_degree))

    def head(self, relation: int) -> int:
        """The slot of the heads of a relation."""
        return relation

    def tail(self, relation: int) -> int:
        """The slot of the tails of a relation."""
        return self.num_relations + relation

    def entities(self, slot: int) -> Int64[Tensor, " A"]:
        """The entities of a slot, ascending."""
        start, stop = self.sets.offset[slot : slot + 2].tolist()
        return self.sets.entity[start:stop].long()

    def alike(self, slot: int, overlap: float) -> Int64[Tensor, " A"]:
        """The entities of a slot and of those slots that have at least the share `overlap` of theirs in it, ascending.

        An example: heads of `directed_by` are films. Of the tails of `acted_in`, nine of ten are heads of `directed_by`
        too. So with an overlap of .5 a film that has a cast, but no director in train, is among the entities.

        Args:
            overlap: above 0 and at most 1.
        """
        first, slots = self._slots_of_entities
        _, beside = all_answers(self.entities(slot), first, slots)
        common = torch.bincount(beside, minlength=2 * self.num_relations)
        size = self.sets.offset.diff()
        (like,) = torch.nonzero((common >= overlap * size) & (common > 0), as_tuple=True)
        return torch.unique(torch.cat([self.entities(each) for each in [slot, *like.tolist()]]))

    @cached_property
    def _slots_of_entities(self) -> tuple[Int64[Tensor, " E_plus_1"], Int64[Tensor, " K"]]:
        """The slots of entity e are `slot[offset[e]:offset[e + 1]]`."""
        entity, order = self.sets.entity.long().sort()
        slot = torch.repeat_interleave(torch.arange(2 * self.num_relations), self.sets.offset.diff())
        count = torch.bincount(entity, minlength=self.num_entities)
        return torch.cat([count.new_zeros(1), count.cumsum(0)]), slot[order]
