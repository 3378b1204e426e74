"""SimplE (Kazemi and Poole, SimplE embedding for link prediction in knowledge graphs, NeurIPS 2018).

(<h, r, t'> + <t, r', h'>) / 2, where e is an entity as head, e' the same as tail, and r' the relation's inverse.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.scoring import QueryScoring


class SimplE(QueryScoring):
    """The mean of two diagonal bilinear forms, one for a relation and one for its inverse.

    An entity row holds the vector as head, then the vector as tail. A relation row holds the relation's vector, then
    its inverse's. Each form takes the head vector of one entity and the tail vector of the other. If it took the same
    half of both rows, as PyKEEN does, every relation would be symmetric.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    def __init__(self, dim: int, precision: str) -> None:
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim, "entity_as_tail": dim}, {"relation": dim, "relation_inverse": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The mean of both forms."""
        return (_swapped(head) * _swapped(relation) * tail).sum(-1) / 2

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h' * r' for the tail's vector as head, then h * r for its vector as tail, halved."""
        return _swapped(head) * _swapped(relation) / 2

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t' * r for the head's vector as head, then t * r' for its vector as tail, halved."""
        return _swapped(tail) * relation / 2

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"]:
        """h * t' for the relation, then h' * t for its inverse, halved."""
        return head * _swapped(tail) / 2

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)


def _swapped(row: Float[Tensor, "*#b E"]) -> Float[Tensor, "*#b E"]:
    """The second half, then the first."""
    return torch.cat(row.chunk(2, dim=-1)[::-1], dim=-1)
