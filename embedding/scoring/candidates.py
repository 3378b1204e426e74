"""Candidates of queries, as places in a look-up: their rows are copied only where that pays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.lookup import Lookup

_LEAST_SHARED = 4
"""Queries that must share a pool for a matrix product over its copied rows to beat reading rows where they lie."""


def share_pools(queries: int, pools: int) -> bool:
    """Whether so many queries share so many pools widely enough for matrix products: at least 4 queries a pool."""
    return queries >= _LEAST_SHARED * pools


@dataclass(frozen=True)
class Candidates:
    """The entities that the queries of each chunk are compared with; C = B where each query has its own."""

    lookup: Lookup
    place: Int64[Tensor, "C N"]
    given: Float[Tensor, "C N E"] | None = None
    """Their rows, where they are at hand."""

    @classmethod
    def of(cls, rows: Float[Tensor, "C N E"]) -> "Candidates":
        """Rows that are at hand."""
        place = torch.arange(rows.shape[0] * rows.shape[1], device=rows.device).view(rows.shape[:2])
        return cls(Lookup.of(rows.flatten(0, 1)), place, rows)

    def rows(self) -> Float[Tensor, "C N E"]:
        """Their rows, differentiable; a copy unless they were at hand."""
        return self.lookup.gather(self.place) if self.given is None else self.given

    def shared_by(self, queries: int) -> bool:
        """Whether so many queries share these pools widely enough for matrix products."""
        return share_pools(queries, len(self.place))

    def chunks(self, start: int, stop: int) -> "Candidates":
        """Those of the chunks [start, stop)."""
        return Candidates(self.lookup, self.place[start:stop])

    def split(self, size: int) -> "list[Candidates]":
        """The same in blocks of `size` candidates a chunk."""
        return [Candidates(self.lookup, block) for block in self.place.split(size, dim=1)]
