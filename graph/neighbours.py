"""Neighbours in the train graph with undirected edges: steps of random walks, and sets of entities within k hops."""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from graph.entity_sets import EntitySets
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids
from graph.ranges import find_in_ranges
from graph.sorted_facts import sorted_answers

_WORDS = 8
"""64-bit words an entity, a bit for each anchor: one cache line, so 512 sets are computed together."""


class Neighbours:
    """The distinct neighbours of each entity, without itself: at most 8 bytes a triple, mapped if they are many."""

    def __init__(self, train: Int[Tensor, "T 3"], num_entities: int, device: torch.device) -> None:
        head, tail = train[:, 0].int(), train[:, 2].int()
        is_edge = head != tail
        head, tail = head[is_edge], tail[is_edge]
        one, other = torch.cat([head, tail]), torch.cat([tail, head])
        any_relation = torch.zeros(1, dtype=torch.int32).expand(len(one))
        edges = sorted_answers(one.cpu(), any_relation, other.cpu(), num_entities, 1, None)
        degree = torch.zeros(num_entities, dtype=torch.int64)
        degree[edges.query] = edges.offset.diff().long()
        self.num_entities = num_entities
        self.of_all = edges.answer.to(device)
        """The neighbours of all entities, ascending for each."""
        self.degree = degree.to(device)
        self.first = (degree.cumsum(0) - degree).to(device)

    def neighbour(self, entity: Int64[Tensor, "*s"], number: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """Neighbour `number` (from 0, ascending) of each entity; any entity if `number` >= its degree."""
        return self.of_all[(self.first[entity] + number).clamp(max=len(self.of_all) - 1)].long()

    def step(self, entity: Int64[Tensor, "*s"], uniform: Float64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """A random neighbour of each entity, all equally likely; the entity itself if it has none.

        Args:
            uniform: a random number in (0, 1) for each entity.
        """
        degree = self.degree[entity]
        return torch.where(degree > 0, self.neighbour(entity, (uniform * degree).long()), entity)

    def adjacent(self, one: Int64[Tensor, " K"], other: Int64[Tensor, " K"]) -> Bool[Tensor, " K"]:
        """Whether one[k] and other[k] are neighbours."""
        return find_in_ranges(self.of_all, self.first[one], self.first[one] + self.degree[one], other) >= 0

    def within(self, hops: int, memory_mb: int) -> EntitySets:
        """For each entity, the set of the other entities at most `hops` steps away.

        512 anchors are handled together: each entity has one bit for each anchor that reaches it, and a hop is the "or"
        of its neighbours' bits. A hop reads entities x edges / 8 bytes. 2 hops on FB15k-237, whose sets hold a third of
        all pairs, take 5 seconds (DGL's message passing: 11, torch's sparse product: 21).

        Raises:
            InputError: the sets need more than `memory_mb`, or there are too many entities for int32.
        """
        expect_int32_ids("generator.pool=exact", self.num_entities)
        offset = torch.zeros(self.num_entities + 1, dtype=torch.int64)
        pieces, found = [], 0
        for start in range(0, self.num_entities, 64 * _WORDS):
            anchor, entity = self._within_reach(start, hops)
            found += len(entity)
            if found * 4 > memory_mb * 2**20:
                raise InputError(
                    f"generator.memory_mb={memory_mb}: the sets of entities within generator.hops={hops} take more, "
                    f"{found * 4 / 2**20:.0f} MB for the first {min(start + 64 * _WORDS, self.num_entities)} of "
                    f"{self.num_entities} entities; use generator.pool=walks, which needs no sets, or fewer hops"
                )
            offset[start + 1 : start + 1 + 64 * _WORDS] = torch.bincount(
                torch.from_numpy(anchor), minlength=min(64 * _WORDS, self.num_entities - start)
            )
            pieces.append(torch.from_numpy(entity.astype(np.int32)))
        return EntitySets(offset.cumsum(0), torch.cat(pieces))

    def _within_reach(self, start: int, hops: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of an anchor (counted from `start`) and an entity that it reaches, in ascending order."""
        anchor = np.arange(min(64 * _WORDS, self.num_entities - start))
        reach = np.zeros((self.num_entities, _WORDS), dtype=np.uint64)
        reach[start + anchor, anchor // 64] = np.uint64(1) << (anchor % 64).astype(np.uint64)
        neighbour = self.of_all.cpu().numpy()
        some = (self.degree > 0).cpu().numpy()
        first = self.first.cpu().numpy()[some]
        for _ in range(hops):
            reach[some] |= np.bitwise_or.reduceat(reach[neighbour], first, axis=0)
        reach[start + anchor, anchor // 64] &= ~(np.uint64(1) << (anchor % 64).astype(np.uint64))
        # In little-endian words the bits of anchors 0, 1, ... are unpacked in this order.
        bits = np.unpackbits(reach.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
        row, entity = np.nonzero(bits[:, : len(anchor)].T)
        return row, entity
