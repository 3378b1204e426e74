"""TransD (Ji et al., Knowledge graph embedding via dynamic mapping matrix, ACL 2015): -||h' + r - t'||_p.

With equal dimensions the mapping of an entity e with transfer vector e_p is e' = e + (e_p . e) r_p.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidate_blocks import by_chunk
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import ScoringFunction
from graph.errors import InputError


class TransD(ScoringFunction):
    """Minus the L1 or L2 distance after entity and relation transfer vectors map both ends.

    Rows hold the vector, then the transfer vector.
    """

    def __init__(self, dim: int, norm: int) -> None:
        if norm not in (1, 2):
            raise InputError(f"norm must be 1 or 2, got {norm}")
        super().__init__(dim, {"entity": dim, "entity_transfer": dim}, {"relation": dim, "relation_transfer": dim})
        self.norm = norm

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The norm."""
        return {"norm": self.norm}

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance, at most 0."""
        vector, transfer = relation.chunk(2, dim=-1)
        difference = _map(head, transfer) + vector - _map(tail, transfer)
        return -torch.linalg.vector_norm(difference, self.norm, dim=-1)

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Candidates
    ) -> Float[Tensor, "B N"]:
        """L1 in blocks, because the mapping of a candidate depends on the query; L2 by a few matrix products."""
        if self.norm == 1:
            return super().score_tails(head, relation, tails)
        vector, transfer = relation.chunk(2, dim=-1)
        return _minus_euclidean(_map(head, transfer) + vector, transfer, tails.rows())

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Candidates
    ) -> Float[Tensor, "B N"]:
        """See `score_tails`."""
        if self.norm == 1:
            return super().score_heads(tail, relation, heads)
        vector, transfer = relation.chunk(2, dim=-1)
        return _minus_euclidean(_map(tail, transfer) - vector, transfer, heads.rows())


def _map(entity: Float[Tensor, "*#b E"], transfer: Float[Tensor, "*#b D"]) -> Float[Tensor, "*#b D"]:
    vector, entity_transfer = entity.chunk(2, dim=-1)
    return vector + (entity_transfer * vector).sum(-1, keepdim=True) * transfer


def _minus_euclidean(
    query: Float[Tensor, "B D"], transfer: Float[Tensor, "B D"], candidates: Float[Tensor, "C N E"]
) -> Float[Tensor, "B N"]:
    """-||q - c - a r_p|| with a = c_p . c, by expanding the square: |q - c|^2 - 2 a (q - c) . r_p + a^2 |r_p|^2.

    In float64, because terms cancel and the root of the rest must still be exact in float32.
    """
    dtype = query.dtype
    vector, entity_transfer = candidates.double().chunk(2, dim=-1)
    amount = (entity_transfer * vector).sum(-1)[:, None]  # [C, 1, N]
    q, r_p = by_chunk(query.double(), len(candidates)), by_chunk(transfer.double(), len(candidates))
    along = (q * r_p).sum(-1, keepdim=True) - r_p @ vector.transpose(1, 2)  # (q - c) . r_p
    square = torch.cdist(q, vector).square() - 2 * amount * along + amount.square() * r_p.square().sum(-1, keepdim=True)
    # Rounding can make it slightly negative; the lower bound also keeps the gradient of the root finite.
    return -square.clamp(min=1e-16).sqrt().flatten(0, 1).to(dtype)
