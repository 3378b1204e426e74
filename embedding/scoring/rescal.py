"""RESCAL (Nickel et al., A three-way model for collective learning on multi-relational data, ICML 2011): h . M t."""

from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.scoring import QueryScoring


class RESCAL(QueryScoring):
    """A bilinear form with a full matrix; a relation row holds it row by row, dim x dim.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    def __init__(self, dim: int, precision: str) -> None:
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim}, {"relation": dim * dim})

    def relation_init_range(self) -> float:
        """Variance 1 / dim, so that mapping does not change the length of a vector."""
        return (3 / self.dim) ** 0.5

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The bilinear form."""
        return ((head[..., None, :] @ self._matrix(relation))[..., 0, :] * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The transposed matrix times h."""
        return (head[:, None] @ self._matrix(relation))[:, 0]

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The matrix times t."""
        return (self._matrix(relation) @ tail[:, :, None])[:, :, 0]

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"]:
        """The outer product of h and t."""
        return (head[:, :, None] * tail[:, None]).flatten(1)

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)

    def _matrix(self, relation: Float[Tensor, "*#b R"]) -> Float[Tensor, "*#b E E"]:
        return relation.unflatten(-1, (self.dim, self.dim))
