"""ComplEx (Trouillon et al., Complex embeddings for simple link prediction, ICML 2016): Re <h, r, conj(t)>."""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError


class ComplEx(QueryScoring):
    """A bilinear form over complex numbers; a row holds dim / 2 real parts, then dim / 2 imaginary parts."""

    def __init__(self, dim: int) -> None:
        if dim % 2:
            raise InputError(f"dim must be even for ComplEx (real and imaginary parts), got {dim}")
        super().__init__(dim, {"entity": dim}, {"relation": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The real part of the three-way product with the tail's conjugate."""
        return (_product(head, relation) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """h * r."""
        return _product(head, relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """t * conj(r)."""
        real, imaginary = relation.chunk(2, dim=-1)
        return _product(tail, torch.cat([real, -imaginary], dim=-1))

    def compare(self, query: Float[Tensor, "C S E"], candidate: Float[Tensor, "C N E"]) -> Float[Tensor, "C S N"]:
        """A matrix product a chunk."""
        return query @ candidate.transpose(1, 2)


def _product(left: Float[Tensor, "*#b E"], right: Float[Tensor, "*#b E"]) -> Float[Tensor, "*#b E"]:
    """The product of complex numbers, each row real parts first."""
    left_real, left_imaginary = left.chunk(2, dim=-1)
    right_real, right_imaginary = right.chunk(2, dim=-1)
    real = left_real * right_real - left_imaginary * right_imaginary
    imaginary = left_real * right_imaginary + left_imaginary * right_real
    return torch.cat([real, imaginary], dim=-1)
