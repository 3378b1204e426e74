"""Candidates of queries, as places in a look-up. Their rows are copied only where that is faster."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.lookup import Lookup

_LEAST_SHARED = 4
"""If at least so many queries share a pool, copying its rows and a matrix product is faster than reading in place."""


def share_pools(queries: int, pools: int) -> bool:
    """True if at least 4 queries share each pool, so that matrix products are faster."""
    return queries >= _LEAST_SHARED * pools


@dataclass(frozen=True)
class Candidates:
    """The N entities that the queries of each chunk are compared with; C = B if each query has its own."""

    lookup: Lookup
    place: Int64[Tensor, "C N"]
    given: Float[Tensor, "C N E"] | None = None
    """Their rows, if they were already copied."""

    @classmethod
    def of(cls, rows: Float[Tensor, "C N E"]) -> "Candidates":
        """Candidates given by their rows; differentiable."""
        place = torch.arange(rows.shape[0] * rows.shape[1], device=rows.device).view(rows.shape[:2])
        return cls(Lookup.of(rows.flatten(0, 1)), place, rows)

    @classmethod
    def padded(cls, rows: Float[Tensor, "n E"], whole: int) -> "Candidates":
        """Candidates that all queries share, with rows of zeros up to a multiple of `whole`, which is one of 64.

        A matrix product of another width may round its last columns differently, and then equal rows would not have
        equal scores.
        """
        missing = -len(rows) % whole
        return cls.of(torch.cat([rows, rows.new_zeros((missing, rows.shape[1]))])[None] if missing else rows[None])

    def rows(self) -> Float[Tensor, "C N E"]:
        """Their rows, differentiable; copied unless `given`."""
        return self.lookup.gather(self.place) if self.given is None else self.given

    def shared_by(self, queries: int) -> bool:
        """True if enough of `queries` queries share each pool for matrix products to be faster."""
        return share_pools(queries, len(self.place))

    def chunks(self, start: int, stop: int) -> "Candidates":
        """The candidates of the chunks [start, stop)."""
        return Candidates(self.lookup, self.place[start:stop])

    def split(self, size: int) -> "list[Candidates]":
        """These candidates in blocks of `size` candidates for each chunk."""
        return [Candidates(self.lookup, block) for block in self.place.split(size, dim=1)]
