"""The edges that an encoder sends messages along: each train fact, and its inverse."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from embedding.encoder.facts import TrainFacts
from graph.batch import Batch
from graph.partition import EntityPlacement


@dataclass(frozen=True)
class Edges:
    """Edges of a step, in the order (destination, relation, source), so that sums have one order on any rank.

    Where neighbours are sampled, a weight is also divided by the probability that its edge is drawn.
    """

    destination: Int64[Tensor, " M"]
    """Place among the rows that a layer makes."""
    source: Int64[Tensor, " M"]
    """Place among the rows of sources, `Hop.sources`."""
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
        facts: of train.
        placement: which row each entity has.
        rank, world_size: this rank, and the number of ranks.
        dtype: of the weights of the edges.
    """

    def __init__(
        self, facts: TrainFacts, placement: EntityPlacement, *, rank: int, world_size: int, dtype: torch.dtype
    ) -> None:
        self._facts = facts
        self._dtype = dtype
        self._of_block(placement, rank, world_size)

    def _of_block(self, placement: EntityPlacement, rank: int, world_size: int) -> None:
        facts = self._facts
        start, stop = placement.block(rank, world_size)
        row = placement.row_of_entity.to(facts.head.device)
        fact = torch.arange(len(facts), device=facts.head.device)
        into = torch.cat([row[facts.tail], row[facts.head]])
        origin = torch.cat([facts.head, facts.tail])
        relation = torch.cat([facts.relation, facts.relation + facts.num_relations])
        mine = ((into >= start) & (into < stop)).nonzero()[:, 0]
        # By the entity of the source, not by its row: the order must not depend on who owns it.
        mine = mine[origin[mine].argsort(stable=True)]
        mine = mine[relation[mine].argsort(stable=True)]
        mine = mine[into[mine].argsort(stable=True)]
        self._fact = fact.repeat(2)[mine]
        self._destination = into[mine] - start
        self._relation = relation[mine]
        group = self._destination * (2 * facts.num_relations) + self._relation
        self._group = torch.unique_consecutive(group, return_inverse=True)[1]
        self.sources, self._source = torch.unique(row[origin[mine]], return_inverse=True)
        """The distinct rows, of the whole table, that these edges start from; ascending."""

    def all(self) -> Edges:
        """The edges of all train facts, for all but training steps."""
        return self._kept(torch.ones_like(self._facts.head, dtype=torch.bool))

    def without(self, batch: Batch) -> Edges:
        """The edges without those that a step leaves out, and their inverses: all other facts keep theirs.

        Args:
            batch: the global batch; see `TrainFacts.left_out`.
        """
        kept = torch.ones_like(self._facts.head, dtype=torch.bool)
        kept[self._facts.left_out(batch)] = False
        return self._kept(kept)

    def _kept(self, kept: Bool[Tensor, " F"]) -> Edges:
        """The edges of some facts; degrees count these facts only."""
        facts = self._facts
        as_head = torch.bincount(facts.head[kept], minlength=facts.num_entities)
        as_tail = torch.bincount(facts.tail[kept], minlength=facts.num_entities)
        # Places, not a mask, which would be counted again by each choice.
        chosen = kept.index_select(0, self._fact).nonzero()[:, 0]
        destination, group = self._destination.index_select(0, chosen), self._group.index_select(0, chosen)
        # A fact that is left out may have no other fact with its head or tail; its weight, infinite, is not chosen.
        symmetric = (as_head.index_select(0, facts.head) * as_tail.index_select(0, facts.tail)).double().rsqrt()
        return Edges(
            destination,
            self._source.index_select(0, chosen),
            self._relation.index_select(0, chosen),
            symmetric.to(self._dtype).index_select(0, self._fact.index_select(0, chosen)),
            _share(group).to(self._dtype),
            _share(destination).to(self._dtype),
        )


def _share(group: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    """1 / the size of each edge's group."""
    return torch.bincount(group).double().reciprocal().index_select(0, group)
