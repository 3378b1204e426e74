"""TransE (Bordes et al., Translating embeddings for modeling multi-relational data, NIPS 2013): -||h + r - t||_p."""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError


class TransE(QueryScoring):
    """Minus the L1 or L2 distance of the translated head from the tail."""

    def __init__(self, dim: int, norm: int) -> None:
        if norm not in (1, 2):
            raise InputError(f"norm must be 1 or 2, got {norm}")
        super().__init__(dim, {"entity": dim}, {"relation": dim})
        self.norm = norm

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The norm."""
        return {"norm": self.norm}

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance, at most 0."""
        return -torch.linalg.vector_norm(head + relation - tail, self.norm, dim=-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h + r."""
        return head + relation

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t - r."""
        return tail - relation

    def compare(self, query: Float[Tensor, "C S E"], candidate: Float[Tensor, "C N E"]) -> Float[Tensor, "C S N"]:
        """Minus all pairwise distances, without a [C, S, N, E] intermediate."""
        if self.norm == 1:
            return -torch.cdist(query, candidate, p=1)
        # The fast way to L2 expands the square, which leaves an error of the root of the rounding: in float32 as large
        # as a good triple's distance. In float64 it is below float32's own, and still faster than summing differences.
        return -torch.cdist(query.double(), candidate.double()).to(query.dtype)
