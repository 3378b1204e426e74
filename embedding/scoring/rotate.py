"""RotatE (Sun et al., Knowledge graph embedding by relational rotation, ICLR 2019): -sum |h * r - t|."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import minus_modulus, modulus_sum
from embedding.scoring.complex_numbers import product
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError
from kernels.pairs import Comparison
from kernels.queries import Combination


class RotatE(QueryScoring):
    """Minus the sum of complex moduli after each coordinate of the head is rotated by the relation's phase.

    An entity row holds dim / 2 real parts, then dim / 2 imaginary parts; a relation row dim / 2 phases in radians.
    """

    combination = Combination.ROTATION
    entity_components = 2
    comparison = Comparison.MODULUS

    def __init__(self, dim: int) -> None:
        if dim % 2:
            raise InputError(f"dim must be even for RotatE (real and imaginary parts), got {dim}")
        super().__init__(dim, {"entity": dim}, {"relation": dim // 2})

    def relation_init_range(self) -> float:
        """Pi: all phases."""
        return math.pi

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance, at most 0."""
        return -modulus_sum(_turn(head, relation) - tail)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h rotated by r."""
        return _turn(head, relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t rotated back by r: rotation does not change distances."""
        return product(tail, _on_the_circle(relation), conjugate=True)

    def relation_factors(self, relations: Float64[Tensor, "R_ R"]) -> Float64[Tensor, "R_ E"]:
        """The phases as complex numbers."""
        return _on_the_circle(relations)

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Minus all pairwise distances, without a [B, N, E] intermediate."""
        return minus_modulus(query, candidates)


def _turn(entity: Float[Tensor, "*#b E"], phase: Float[Tensor, "*#b R"]) -> Float[Tensor, "*#b E"]:
    return product(entity, _on_the_circle(phase))


def _on_the_circle(phase: Float[Tensor, "*#b R"]) -> Float[Tensor, "*#b E"]:
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
