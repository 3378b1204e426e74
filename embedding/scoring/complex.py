"""ComplEx (Trouillon et al., Complex embeddings for simple link prediction, ICML 2016): Re <h, r, conj(t)>."""

from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.complex_numbers import product
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError
from kernels.pairs import Comparison
from kernels.queries import Combination


class ComplEx(QueryScoring):
    """A bilinear form over complex numbers; a row holds dim / 2 real parts, then dim / 2 imaginary parts.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    combination = Combination.ROTATION
    comparison = Comparison.DOT
    entity_components = relation_components = 2

    def __init__(self, dim: int, precision: str) -> None:
        if dim % 2:
            raise InputError(f"dim must be even for ComplEx (real and imaginary parts), got {dim}")
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim}, {"relation": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The real part of the three-way product with the tail's conjugate."""
        return (product(head, relation) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h * r."""
        return product(head, relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t * conj(r)."""
        return product(tail, relation, conjugate=True)

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"]:
        """t * conj(h)."""
        return product(tail, head, conjugate=True)

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)
