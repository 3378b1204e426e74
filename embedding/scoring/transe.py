"""TransE (Bordes et al., Translating embeddings for modeling multi-relational data, NIPS 2013): -||h + r - t||_p."""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import minus_l1, minus_l2, precision_of
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError
from kernels.pairs import Comparison
from kernels.precision import Precision
from kernels.queries import Combination


class TransE(QueryScoring):
    """Minus the L1 or L2 distance of the translated head from the tail.

    Args:
        norm: 1 or 2.
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training; L2 only.
    """

    combination = Combination.TRANSLATION

    def __init__(self, dim: int, norm: int, precision: str) -> None:
        if norm not in (1, 2):
            raise InputError(f"norm must be 1 or 2, got {norm}")
        self.norm, self.precision = norm, precision_of(precision)
        if norm == 1 and self.precision != Precision.FLOAT32:
            raise InputError(f"precision must be float32 where norm is 1, which takes no product, got {precision!r}")
        self.comparison = Comparison.L1 if norm == 1 else Comparison.L2
        super().__init__(dim, {"entity": dim}, {"relation": dim})

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

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Minus all pairwise distances, without a [B, N, E] intermediate."""
        return minus_l1(query, candidates) if self.norm == 1 else minus_l2(query, candidates, self.precision)
