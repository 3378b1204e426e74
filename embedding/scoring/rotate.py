"""RotatE (Sun et al., Knowledge graph embedding by relational rotation, ICLR 2019): -sum |h * r - t|."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.scoring import QueryScoring, in_blocks
from graph.errors import InputError


class RotatE(QueryScoring):
    """Minus the sum of complex moduli after each coordinate of the head is turned by the relation's phase.

    An entity row holds dim / 2 real parts, then dim / 2 imaginary parts; a relation row dim / 2 phases in radians.
    """

    def __init__(self, dim: int) -> None:
        if dim % 2:
            raise InputError(f"dim must be even for RotatE (real and imaginary parts), got {dim}")
        super().__init__(dim, {"entity": dim}, {"relation": dim // 2})

    def relation_init_range(self) -> float:
        """All phases."""
        return math.pi

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance, at most 0."""
        return _minus_distance(_turn(head, relation), tail)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h turned by r."""
        return _turn(head, relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t turned back by r: a turn keeps distances."""
        return _turn(tail, -relation)

    def compare(self, query: Float[Tensor, "C S E"], candidate: Float[Tensor, "C N E"]) -> Float[Tensor, "C S N"]:
        """Minus all pairwise distances, a block of candidates at a time."""
        scores = in_blocks(lambda q, c: _minus_distance(q[:, :, None], c[:, None]), (query.flatten(0, 1),), candidate)
        return scores.view(*query.shape[:2], candidate.shape[1])


def _turn(entity: Float[Tensor, "*#b E"], phase: Float[Tensor, "*#b R"]) -> Float[Tensor, "*#b E"]:
    real, imaginary = entity.chunk(2, dim=-1)
    cos, sin = phase.cos(), phase.sin()
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1)


def _minus_distance(left: Float[Tensor, "*#b E"], right: Float[Tensor, "*#b E"]) -> Float[Tensor, "*b"]:
    # vector_norm, unlike a square root, has gradient 0 where a coordinate agrees exactly.
    difference = torch.stack((left - right).chunk(2, dim=-1))
    return -torch.linalg.vector_norm(difference, dim=0).sum(-1)
