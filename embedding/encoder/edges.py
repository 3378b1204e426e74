"""The edges that an encoder sends messages along: each train fact, and its inverse."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError
from graph.partition import EntityPlacement


@dataclass(frozen=True)
class Edges:
    """Edges of a step, in the order (destination, relation, source), so that sums have one order on any rank."""

    destination: Int64[Tensor, " M"]
    """Index in this rank's block of rows."""
    source: Int64[Tensor, " M"]
    """Place among the distinct sources, `TrainEdges.sources`."""
    relation: Int64[Tensor, " M"]
    """r for (head, r, tail), from head to tail; r + R for its inverse, from tail to head."""
    symmetric: Float[Tensor, " M"]
    """1 / sqrt(a * b), where a is the number of facts with the fact's head as head, b with its tail as tail."""
    per_relation: Float[Tensor, " M"]
    """1 / the number of edges with this destination and relation."""
    per_entity: Float[Tensor, " M"]
    """1 / the number of edges with this destination."""


class TrainEdges:
    """All distinct train facts as edges in both directions; each rank has the edges into its own rows.

    Args:
        train: the triples as ids.
        placement: which row each entity has.
        rank, world_size: this rank, and the number of ranks.
        device, dtype: of the edges and their weights.
    Raises:
        InputError: the graph has so many possible triples that they can't be numbered in 63 bits.
    """

    def __init__(
        self,
        train: Int[Tensor, "T 3"],
        num_relations: int,
        placement: EntityPlacement,
        *,
        rank: int,
        world_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        entities = len(placement.row_of_entity)
        if entities**2 * num_relations >= 1 << 63:
            raise InputError(
                f"encoder: entities^2 * relations must be below 2^63, got {entities}^2 * {num_relations}: "
                "encoders are for smaller graphs"
            )
        self.num_relations = num_relations
        self.num_entities = entities
        self.dtype = dtype
        self._key = torch.unique(self._keys(*train.long().unbind(1))).to(device)
        """The number of each distinct fact, ascending."""
        self._head = self._key // (num_relations * entities)
        self._tail = self._key % entities
        self._of_block(placement, rank, world_size)

    def _keys(self, head: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], tail: Int64[Tensor, " B"]) -> Tensor:
        return (head * self.num_relations + relation) * self.num_entities + tail

    def _of_block(self, placement: EntityPlacement, rank: int, world_size: int) -> None:
        start, stop = placement.block(rank, world_size)
        row = placement.row_of_entity.to(self._key.device)
        fact = torch.arange(len(self._key), device=self._key.device)
        relation = self._key // self.num_entities % self.num_relations
        into = torch.cat([row[self._tail], row[self._head]])
        origin = torch.cat([self._head, self._tail])
        relation = torch.cat([relation, relation + self.num_relations])
        mine = ((into >= start) & (into < stop)).nonzero()[:, 0]
        # By the entity of the source, not by its row: the order must not depend on who owns it.
        mine = mine[origin[mine].argsort(stable=True)]
        mine = mine[relation[mine].argsort(stable=True)]
        mine = mine[into[mine].argsort(stable=True)]
        self._fact = fact.repeat(2)[mine]
        self._destination = into[mine] - start
        self._relation = relation[mine]
        group = self._destination * (2 * self.num_relations) + self._relation
        self._group = torch.unique_consecutive(group, return_inverse=True)[1]
        self.sources, self._source = torch.unique(row[origin[mine]], return_inverse=True)
        """The distinct rows, of the whole table, that these edges start from; ascending."""

    def all(self) -> Edges:
        """The edges of all train facts, for all but training steps."""
        return self._kept(torch.ones_like(self._key, dtype=torch.bool))

    def without(self, batch: Batch) -> Edges:
        """The edges without those of the batch's positives and their inverses: all other facts keep theirs.

        Args:
            batch: the global batch. Every positive must be a train fact; padding leaves out nothing.
        """
        real = batch.weight > 0
        own = self._keys(batch.head[real], batch.relation[real], batch.tail[real])
        kept = torch.ones_like(self._key, dtype=torch.bool)
        kept[torch.searchsorted(self._key, own)] = False
        return self._kept(kept)

    def _kept(self, kept: Bool[Tensor, " F"]) -> Edges:
        """The edges of some facts; degrees count these facts only."""
        as_head = torch.bincount(self._head[kept], minlength=self.num_entities)
        as_tail = torch.bincount(self._tail[kept], minlength=self.num_entities)
        chosen = kept[self._fact]
        fact, destination, group = self._fact[chosen], self._destination[chosen], self._group[chosen]
        symmetric = (as_head[self._head[fact]] * as_tail[self._tail[fact]]).double().rsqrt()
        return Edges(
            destination,
            self._source[chosen],
            self._relation[chosen],
            symmetric.to(self.dtype),
            _share(group).to(self.dtype),
            _share(destination).to(self.dtype),
        )


def _share(group: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    """1 / the size of each edge's group."""
    return torch.bincount(group)[group].double().reciprocal()
