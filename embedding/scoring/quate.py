"""QuatE (Zhang et al., Quaternion knowledge graph embeddings, NeurIPS 2019): (h * r / |r|) . t, of quaternions."""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.scoring import QueryScoring
from embedding.scoring.unit import unit
from graph.errors import InputError


class QuatE(QueryScoring):
    """The head, each quaternion rotated by the relation's, and its inner product with the tail.

    A row holds dim / 4 real parts, then as many of i, of j and of k. The score divides each quaternion of a relation by
    its norm. The sign is that of the paper: a tail near the rotated head has a high score. The authors' code and PyKEEN
    have the opposite sign, which makes no difference to what can be learned.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    entity_components = relation_components = 4

    def __init__(self, dim: int, precision: str) -> None:
        if dim % 4:
            raise InputError(f"dim must be a multiple of 4 for QuatE (a real and three imaginary parts), got {dim}")
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim}, {"relation": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The inner product of the rotated head with the tail."""
        return (_turned(head, relation) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h rotated by r."""
        return _turned(head, relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t rotated back by r."""
        real, *imaginary = relation.chunk(4, dim=1)
        return _turned(tail, torch.cat([real, *(-each for each in imaginary)], dim=1))

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)


def _turned(entity: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b E"]) -> Float[Tensor, "*b E"]:
    """The Hamilton product with the relation's quaternions, each divided by its norm."""
    a, b, c, d = entity.chunk(4, dim=-1)
    p, q, u, v = unit(torch.stack(relation.chunk(4, dim=-1), dim=-1)).unbind(-1)
    parts = (
        a * p - b * q - c * u - d * v,
        a * q + b * p + c * v - d * u,
        a * u - b * v + c * p + d * q,
        a * v + b * u - c * q + d * p,
    )
    return torch.cat(parts, dim=-1)
