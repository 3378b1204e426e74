"""The entities of each slot. A slot is a place of a relation: its head or its tail."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.entity_sets import EntitySets
from graph.statistics import RelationStatistics
from kernels.known import all_answers

_FIRST = 4096
"""The fewest entities that `Slots.likely` looks at."""


@dataclass(frozen=True, eq=False)
class Slots:
    """The entities that train has in each slot. Slot r is the head of relation r, slot R + r is its tail.

    Example: `slots.entities(slots.tail(r))` are all entities that are a tail of relation r in train.
    """

    sets: EntitySets
    """2 R sets, one for each slot."""
    num_relations: int
    degree: Int64[Tensor, " E"]
    """How often each entity is a head or a tail."""

    @classmethod
    def of(cls, seen: RelationStatistics) -> "Slots":
        """The slots of a graph, from the domains and ranges of its relations. Ids must fit int32."""
        offset = torch.cat([seen.domain_offset, len(seen.domain_entity) + seen.range_offset[1:]])
        entity = torch.cat([seen.domain_entity, seen.range_entity])
        return cls(EntitySets(offset, entity), len(seen.domain_offset) - 1, seen.entity_degree)

    @property
    def num_entities(self) -> int:
        """Number of entities of the graph."""
        return len(self.degree)

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

    def likely(self, slot: int, count: int) -> Int64[Tensor, " A"]:
        """The entities that most likely belong in a slot, at most `count`, likeliest first; ties by id.

        An entity's score is about how many of its facts would be in the slot: its degree, times the mean over its slots
        of the share of their entities that are in `slot` too (1 for `slot` itself). Without the degree this is L-WD,
        the linear recommender of Cornell et al. (Are we wasting time? A fast, accurate performance evaluation framework
        for knowledge graph link predictors, arXiv 2402.00053). An entity that shares no slot with those of `slot` is
        not likely.

        A score is at most the degree. So entities are looked at by degree, the highest first, until no other one can be
        among the best: of millions of entities, some thousand.
        """
        first, slots = self._slots_of_entities
        _, beside = all_answers(self.entities(slot), first, slots)
        share = torch.bincount(beside, minlength=2 * self.num_relations).double() / self.sets.offset.diff().clamp(min=1)
        looked_at = min(max(4 * count, _FIRST), self.num_entities)
        while True:
            entity = self._by_degree[:looked_at].sort().values
            score = self._mean(share, entity) * self.degree[entity]
            best = score.argsort(descending=True, stable=True)[:count]
            if looked_at == self.num_entities or count == 0:
                break
            if len(best) == count and score[best[-1]] > self.degree[self._by_degree[looked_at]]:
                break
            looked_at = min(4 * looked_at, self.num_entities)
        return entity[best[score[best] > 0]]

    def _mean(self, share: Float64[Tensor, " slots"], entity: Int64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        """The mean over the slots of each of these entities."""
        of, slot = all_answers(entity, *self._slots_of_entities)
        total = share.new_zeros(len(entity)).index_add_(0, of, share[slot])
        return total / torch.bincount(of, minlength=len(entity)).clamp(min=1)

    @cached_property
    def _by_degree(self) -> Int64[Tensor, " E"]:
        """All entities, those with the highest degree first."""
        return self.degree.argsort(descending=True, stable=True)

    @cached_property
    def _slots_of_entities(self) -> tuple[Int64[Tensor, " E_plus_1"], Int64[Tensor, " K"]]:
        """The slots of entity e are `slot[offset[e]:offset[e + 1]]`."""
        entity, order = self.sets.entity.long().sort()
        slot = torch.repeat_interleave(torch.arange(2 * self.num_relations), self.sets.offset.diff())
        count = torch.bincount(entity, minlength=self.num_entities)
        return torch.cat([count.new_zeros(1), count.cumsum(0)]), slot[order]
