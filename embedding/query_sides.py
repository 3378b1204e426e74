"""Splits the queries of a batch by side: those that ask for heads, then those that ask for tails."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates


@dataclass(frozen=True)
class QuerySide:
    """The queries of a batch that ask for heads (`of_heads`), or those that ask for tails."""

    of_heads: bool
    first: int
    """The row of the batch of the first query."""
    anchor: Float[Tensor, "b E"]
    relation: Float[Tensor, "b R"]

    @property
    def rows(self) -> slice:
        """The rows of the batch that these queries have."""
        return slice(self.first, self.first + len(self.anchor))


def query_sides(anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: int) -> list[QuerySide]:
    """The first `heads` queries, which ask for heads, and the others; each may be empty. See `KGEModel.query_rows`."""
    # Split, not sliced: the backward of a slice makes a full copy padded with zeros, and two of these are then added.
    sizes = [heads, len(anchor) - heads]
    (tail, head), (of_tail, of_head) = anchor.split(sizes), relation.split(sizes)
    return [QuerySide(True, 0, tail, of_tail), QuerySide(False, heads, head, of_head)]


def block_scorer(
    model: KGEModel, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: int
) -> Callable[[Float[Tensor, "C n E"]], Float[Tensor, "B n"]]:
    """A function that maps rows [C, n, E] of entities to scores [B, n] of all these queries.

    With C = 1 all queries are scored with the same rows, with C = B each query is scored with its own.
    """
    sides = query_sides(anchor, relation, heads)
    scorers = [model.scoring.scorer(side.anchor, side.relation, of_heads=side.of_heads) for side in sides]

    def scores(rows: Float[Tensor, "C n E"]) -> Float[Tensor, "B n"]:
        parts = [rows[side.rows] for side in sides] if len(rows) == len(anchor) else [rows, rows]
        return torch.cat([score(Candidates.of(part)) for score, part in zip(scorers, parts, strict=True)])

    return scores
