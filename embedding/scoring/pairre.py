"""PairRE (Chao et al., PairRE: Knowledge graph embeddings via paired relation vectors, ACL 2021).

-||h * r_h - t * r_t||_1 of entity vectors with length 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidate_blocks import in_blocks
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from embedding.scoring.unit import unit


class PairRE(QueryScoring):
    """Minus the L1 distance after the relation scales each coordinate of the head and of the tail in its own way.

    A relation row holds the head's factors, then the tail's. The score divides entity vectors by their norms.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, {"entity": dim}, {"relation": dim, "relation_of_tail": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance, at most 0."""
        of_head, of_tail = relation.chunk(2, dim=-1)
        return -torch.linalg.vector_norm(unit(head) * of_head - unit(tail) * of_tail, 1, dim=-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """h * r_h, then the tail's factors."""
        of_head, of_tail = relation.chunk(2, dim=1)
        return torch.cat([unit(head) * of_head, of_tail], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """t * r_t, then the head's factors."""
        of_head, of_tail = relation.chunk(2, dim=1)
        return torch.cat([unit(tail) * of_tail, of_head], dim=1)

    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Minus all pairwise distances, in blocks, because the factors of candidates differ by query."""
        return in_blocks(_minus_distances, query.chunk(2, dim=1), candidates)


def _minus_distances(
    aim: Float[Tensor, "C S E"], factor: Float[Tensor, "C S E"], rows: Float[Tensor, "C n E"]
) -> Float[Tensor, "C S n"]:
    return -torch.linalg.vector_norm(aim[:, :, None] - factor[:, :, None] * unit(rows)[:, None], 1, dim=-1)
