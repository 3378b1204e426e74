"""Sends the queries of all ranks to every rank, so that each rank can compare them with its own rows.

With replicated rows, a rank compares its own queries with all rows, and nothing is sent.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.exchange import gather_ranks
from embedding.model import KGEModel
from embedding.query_sides import query_sides

Answers = tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]
"""Answers of queries as (rows of the batch, entities), two tensors of K pairs; see `KnownTriples.answers`."""


@dataclass(frozen=True)
class _Excluded:
    """Pairs (query, row) that must not be compared, sorted by row: rows count from the first that this rank reads."""

    query: Int64[Tensor, " K"]
    row: Int64[Tensor, " K"]
    num_rows: int
    """Of the whole table."""

    @classmethod
    def of(cls, model: KGEModel, answers: list[Int64[Tensor, "K 2"]], sizes: list[int]) -> "_Excluded":
        """From the answers of each rank.

        Args:
            answers: for each rank, pairs (number of its query, entity).
            sizes: the number of queries of each rank.
        """
        first = [sum(sizes[:rank]) for rank in range(len(sizes))]
        query = torch.cat([each[:, 0] + start for each, start in zip(answers, first, strict=True)])
        row = model.entity.row_of_entity[torch.cat([each[:, 1] for each in answers])]
        row = row - model.site.placement.block(*model.site.part)[0]
        row, order = row.sort()
        return cls(query[order], row, len(model.entity.row_of_entity))

    def out_of(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """The scores of the rows from `first` on, with minus infinity for the excluded pairs."""
        query, row = self.query, self.row
        if score.shape[1] < self.num_rows:  # else all pairs are in this block, and the host need not wait
            bounds = first + score.shape[1] * torch.arange(2, device=row.device)
            start, stop = torch.searchsorted(row, bounds).tolist()
            query, row = query[start:stop], row[start:stop] - first
        return score.index_put((query, row), score.new_full((), -torch.inf))


@dataclass(frozen=True)
class SideOfAllRanks:
    """The queries of all ranks that ask for heads, or those that ask for tails. Lists have one tensor for each rank.

    With replicated rows, they are this rank's alone.
    """

    of_heads: bool
    anchor: list[Tensor]
    relation: list[Tensor]
    excluded: _Excluded | None

    def without_excluded(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """The scores of this rank's rows from `first` on, with minus infinity for excluded entities."""
        return score if self.excluded is None else self.excluded.out_of(score, first)

    @property
    def sizes(self) -> list[int]:
        """The number of queries of each rank."""
        return [len(each) for each in self.anchor]


def queries_of_all_ranks(
    model: KGEModel,
    anchor: Float[Tensor, "B E"],
    relation: Float[Tensor, "B R"],
    heads: int,
    excluded: Answers | None = None,
) -> list[SideOfAllRanks]:
    """The queries of all ranks: first those that ask for heads, then those that ask for tails. Collective.

    Args:
        anchor: rows of the kept entities of this rank's queries; see `KGEModel.query_rows`.
        relation: rows of their relations.
        heads: the first `heads` queries ask for heads, the others for tails.
        excluded: entities that must not be compared with a query.
    """
    _, ranks = model.site.part
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
