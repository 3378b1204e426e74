"""Finds the entities of highest value of each query in the whole table, whose rows are spread over the ranks.

Each rank goes through its own rows once, in blocks, and keeps its best entities. Only these are sent between ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.exchange import add_over_ranks, gather_ranks
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from embedding.table_queries import Answers
from graph.errors import InputError

BLOCK_ROWS = 1024
"""Entities compared by one call, so few that their values stay in the processor's cache. Short blocks are padded to it:
all products have one shape, and a value does not depend on the block, and so not on the number of ranks."""

_Values = Callable[[Candidates], Float[Tensor, "Q n"]]


@torch.no_grad()
def best_of_table(
    model: KGEModel,
    values: _Values,
    queries: int,
    count: int,
    *,
    left_out: Answers,
    among: Int64[Tensor, " A"] | None,
    progress: Callable[[int], object],
) -> BestEntities:
    """The `count` entities of highest value of each of Q queries. Collective: every rank gives the same queries.

    Args:
        values: maps n candidates that all queries share to the values [Q, n] of each query with each of them.
        queries: Q.
        left_out: pairs (query, entity) that are passed over.
        among: the only entities that are compared, distinct; None: all.
        progress: is called after each block with its number of pairs (query, entity), on this rank.
    Returns:
        The same on every rank. A query with fewer than `count` entities ends with others that have minus infinity as
        their value.
    Raises:
        InputError: a value is nan or infinite.
    """
    device = model.site.device
    own = _OwnRows.of(model, among)
    pairs = _LeftOut.of(model, left_out, own)
    best = BestEntities(queries, count, device)
    bad = torch.zeros((), dtype=torch.int64, device=device)
    for first in range(0, len(own), BLOCK_ROWS):
        entity, rows = own.block(first)
        value = values(Candidates.padded(rows, BLOCK_ROWS))[:, : len(rows)]
        bad += ~(value.amin(1).isfinite() & value.amax(1).isfinite()).all()
        pairs.pass_over(value, first)
        best.add(entity, value)
        progress(value.numel())
    ranks = model.site.world_size
    if ranks > 1:
        bad = add_over_ranks(bad)
    if bad:
        raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
    of_all = BestEntities(queries, count, device)
    for entity, value in zip(*(gather_ranks(each, ranks) for each in best.filled()), strict=True):
        of_all.add(entity, value)
    return of_all


@dataclass(frozen=True)
class _OwnRows:
    """Those rows of this rank that are compared."""

    model: KGEModel
    row: Int64[Tensor, " n"] | None
    """Their numbers in this rank's block, ascending; None: the whole block."""

    @classmethod
    def of(cls, model: KGEModel, among: Int64[Tensor, " A"] | None) -> "_OwnRows":
        """The rows of the entities `among` that this rank owns; None: all its rows."""
        if among is None:
            return cls(model, None)
        row = _row_here(model, among)
        return cls(model, row[(row >= 0) & (row < len(model.entity.weight))].sort().values)

    def __len__(self) -> int:
        return len(self.model.entity.weight if self.row is None else self.row)

    def block(self, first: int) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n E"]]:
        """Entities and rows of a block."""
        part = slice(first, first + BLOCK_ROWS)
        row = part if self.row is None else self.row[part]
        return self.model.entity.entity[row], self.model.entity.weight[row].to(self.model.site.dtype)

    def places(self, row: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
        """The place of each row of this rank among the compared ones; -1 if it is not compared."""
        here = (row >= 0) & (row < len(self.model.entity.weight))
        if self.row is None:
            return torch.where(here, row, -1)
        if not len(self.row):
            return torch.full_like(row, -1)
        place = torch.searchsorted(self.row, row).clamp(max=len(self.row) - 1)
        return torch.where(here & (self.row[place] == row), place, -1)


@dataclass(frozen=True)
class _LeftOut:
    """Pairs (query, place among the compared rows) that are passed over, sorted by place."""

    query: Int64[Tensor, " K"]
    place: Int64[Tensor, " K"]

    @classmethod
    def of(cls, model: KGEModel, pairs: Answers, own: _OwnRows) -> "_LeftOut":
        """Those of the pairs (query, entity) whose entity is compared on this rank."""
        query, entity = pairs
        place = own.places(_row_here(model, entity))
        query, place = query[place >= 0], place[place >= 0]
        place, order = place.sort()
        return cls(query[order], place)

    def pass_over(self, value: Float[Tensor, "Q n"], first: int) -> None:
        """Sets the values of the pairs in a block to minus infinity, in place."""
        bounds = self.place.new_tensor([first, first + value.shape[1]])
        start, stop = torch.searchsorted(self.place, bounds).tolist()
        value[self.query[start:stop], self.place[start:stop] - first] = -torch.inf


def _row_here(model: KGEModel, entity: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
    """The row of each entity, counted from the first row of this rank; outside of its block for others."""
    site = model.site
    return model.entity.row_of_entity[entity] - site.placement.block(site.rank, site.world_size)[0]
