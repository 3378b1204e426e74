"""Who is near whom in the train graph, its triples taken as undirected edges: steps of walks, and k-hop sets."""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from graph.entity_sets import EntitySets
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids

_WORDS = 8
"""Words of 64 anchors whose sets are made together: a cache line for each entity."""


class Neighbours:
    """Neighbours of each entity, without itself; memory is that of the triples."""

    def __init__(self, train: Int64[Tensor, "T 3"], num_entities: int, device: torch.device) -> None:
        head, tail = train[:, 0], train[:, 2]
        head, tail = head[head != tail], tail[head != tail]
        edge = torch.unique(torch.cat([head * num_entities + tail, tail * num_entities + head]))
        degree = torch.bincount(edge // num_entities, minlength=num_entities)
        self.num_entities = num_entities
        self.edge = edge.to(device)
        """anchor * num_entities + neighbour, ascending."""
        self.degree = degree.to(device)
        self.first = (degree.cumsum(0) - degree).to(device)

    def neighbour(self, entity: Int64[Tensor, "*s"], number: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """The neighbour of this number; whatever it may be where the entity has fewer."""
        place = (self.first[entity] + number).clamp(max=len(self.edge) - 1)
        return self.edge[place] % self.num_entities

    def step(self, entity: Int64[Tensor, "*s"], uniform: Float64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """A neighbour of each, all equally likely; an entity without neighbours stays."""
        degree = self.degree[entity]
        return torch.where(degree > 0, self.neighbour(entity, (uniform * degree).long()), entity)

    def adjacent(self, one: Int64[Tensor, " K"], other: Int64[Tensor, " K"]) -> Bool[Tensor, " K"]:
        """Whether two entities are neighbours."""
        edge = one * self.num_entities + other
        place = torch.searchsorted(self.edge, edge).clamp(max=len(self.edge) - 1)
        return self.edge[place] == edge

    def within(self, hops: int, memory_mb: int) -> EntitySets:
        """For each entity, the others that are at most so many steps away.

        Every entity has a bit for each of 512 anchors: "is within reach"; a hop is the "or" of the neighbours' words.
        That is entities x edges / 8 bytes of memory to go through for a hop: 2 hops of FB15k-237, whose sets hold a
        third of all pairs, take 5 seconds. (The same by DGL's message passing took 11, by torch's sparse product 21.)

        Raises:
            InputError: the sets take more than `memory_mb`, or int32 can't number the entities.
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
        """Pairs of an anchor, counted from `start`, and an entity within its reach; ascending."""
        anchor = np.arange(min(64 * _WORDS, self.num_entities - start))
        reach = np.zeros((self.num_entities, _WORDS), dtype=np.uint64)
        reach[start + anchor, anchor // 64] = np.uint64(1) << (anchor % 64).astype(np.uint64)
        neighbour = (self.edge % self.num_entities).cpu().numpy()
        some = (self.degree > 0).cpu().numpy()
        first = self.first.cpu().numpy()[some]
        for _ in range(hops):
            reach[some] |= np.bitwise_or.reduceat(reach[neighbour], first, axis=0)
        reach[start + anchor, anchor // 64] &= ~(np.uint64(1) << (anchor % 64).astype(np.uint64))
        # Little-endian words have the bits of anchor 0, 1, ... in the order in which they are unpacked.
        bits = np.unpackbits(reach.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
        row, entity = np.nonzero(bits[:, : len(anchor)].T)
        return row, entity
