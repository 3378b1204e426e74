"""The queries of a batch by side: those for heads first, then those for tails."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates


@dataclass(frozen=True)
class QuerySide:
    """The queries of one side."""

    of_heads: bool
    first: int
    """The row of the batch that they begin with."""
    anchor: Float[Tensor, "b E"]
    relation: Float[Tensor, "b R"]

    @property
    def rows(self) -> slice:
        """Their rows of the batch."""
        return slice(self.first, self.first + len(self.anchor))


def query_sides(anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: int) -> list[QuerySide]:
    """The first `heads` queries, which ask for heads, and the others; either may be none. See `KGEModel.query_rows`."""
    # Split, not sliced: the gradient of two slices is a copy each, filled up with zeros, and their sum.
    sizes = [heads, len(anchor) - heads]
    (tail, head), (of_tail, of_head) = anchor.split(sizes), relation.split(sizes)
    return [QuerySide(True, 0, tail, of_tail), QuerySide(False, heads, head, of_head)]


def block_scorer(
    model: KGEModel, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: int
) -> Callable[[Float[Tensor, "C n E"]], Float[Tensor, "B n"]]:
    """What scores all these queries with one block of rows, C = 1, or each with rows of its own, C = B."""
    sides = query_sides(anchor, relation, heads)
    scorers = [model.scoring.scorer(side.anchor, side.relation, of_heads=side.of_heads) for side in sides]

    def scores(rows: Float[Tensor, "C n E"]) -> Float[Tensor, "B n"]:
        parts = [rows[side.rows] for side in sides] if len(rows) == len(anchor) else [rows, rows]
        return torch.cat([score(Candidates.of(part)) for score, part in zip(scorers, parts, strict=True)])

    return scores
