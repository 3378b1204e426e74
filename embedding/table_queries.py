"""The queries of all ranks on every rank, to be compared with the rows that each rank has."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.exchange import gather_ranks
from embedding.model import KGEModel
from embedding.query_sides import query_sides

Answers = tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]
"""Entities of queries, as (row of the batch, entity): see `KnownTriples.answers`."""


@dataclass(frozen=True)
class _Excluded:
    """Pairs of a query and a row of this rank's block that are not to be compared, by row."""

    query: Int64[Tensor, " K"]
    row: Int64[Tensor, " K"]

    @classmethod
    def of(cls, model: KGEModel, answers: list[Int64[Tensor, "K 2"]], sizes: list[int]) -> "_Excluded":
        """From each rank's answers to its own queries, of which there are so many."""
        first = [sum(sizes[:rank]) for rank in range(len(sizes))]
        query = torch.cat([each[:, 0] + start for each, start in zip(answers, first, strict=True)])
        row = model.entity.row_of_entity[torch.cat([each[:, 1] for each in answers])]
        row = row - model.site.placement.block(model.site.rank, model.site.world_size)[0]
        row, order = row.sort()
        return cls(query[order], row)

    def out_of(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """Scores of a block of rows, minus infinity for these pairs."""
        bounds = self.row.new_tensor([first, first + score.shape[1]])
        start, stop = torch.searchsorted(self.row, bounds).tolist()
        return score.index_put((self.query[start:stop], self.row[start:stop] - first), score.new_tensor(-torch.inf))


@dataclass(frozen=True)
class SideOfAllRanks:
    """The queries of all ranks for one side: their rows, by rank."""

    of_heads: bool
    anchor: list[Tensor]
    relation: list[Tensor]
    excluded: _Excluded | None

    def without_excluded(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """Scores of the block of rows that begins with `first`, minus infinity for what is excluded."""
        return score if self.excluded is None else self.excluded.out_of(score, first)

    @property
    def sizes(self) -> list[int]:
        """How many queries each rank has."""
        return [len(each) for each in self.anchor]


def queries_of_all_ranks(
    model: KGEModel,
    anchor: Float[Tensor, "B E"],
    relation: Float[Tensor, "B R"],
    heads: int,
    excluded: Answers | None = None,
) -> list[SideOfAllRanks]:
    """Sends this rank's queries to all ranks, by side; see `KGEModel.query_rows`. Collective.

    Args:
        heads: how many of the queries, the first ones, ask for heads.
        excluded: entities that some queries are not to be compared with.
    """
    ranks = model.site.world_size
    found = []
    for side in query_sides(anchor, relation, heads):
        anchors, answers = gather_ranks(side.anchor, ranks), None
        if excluded is not None:
            row, entity = excluded
            mine = (row < heads) == side.of_heads
            pairs = torch.stack([row[mine] - side.first, entity[mine]], dim=1)
            answers = _Excluded.of(model, gather_ranks(pairs, ranks), [len(each) for each in anchors])
        found.append(SideOfAllRanks(side.of_heads, anchors, gather_ranks(side.relation, ranks), answers))
    return found
