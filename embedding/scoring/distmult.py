"""DistMult (Yang et al., Embedding entities and relations for learning and inference, ICLR 2015): <h, r, t>."""

from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.scoring import QueryScoring
from kernels.pairs import Comparison
from kernels.queries import Combination


class DistMult(QueryScoring):
    """A bilinear form with a diagonal matrix; the score does not change if head and tail are swapped.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    combination = Combination.PRODUCT
    comparison = Comparison.DOT

    def __init__(self, dim: int, precision: str) -> None:
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim}, {"relation": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The three-way product, summed."""
        return (head * relation * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h * r."""
        return head * relation

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t * r."""
        return tail * relation

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"]:
        """h * t."""
        return head * tail

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)
