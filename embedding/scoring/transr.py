"""TransR (Lin et al., Learning entity and relation embeddings for knowledge graph completion, AAAI 2015).

-||M h + r - M t||_2^2, where each relation has a matrix M that maps entities to its own space.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidate_blocks import in_blocks
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError


class TransR(QueryScoring):
    """Minus the squared distance after the relation's matrix maps both ends.

    A relation row holds the translation, then the matrix row by row: relation_dim rows of dim numbers.

    Args:
        relation_dim: numbers in a translation vector.
    """

    def __init__(self, dim: int, relation_dim: int) -> None:
        if relation_dim < 1:
            raise InputError(f"relation_dim must be at least 1, got {relation_dim}")
        self.relation_dim = relation_dim
        super().__init__(dim, {"entity": dim}, {"relation": relation_dim, "relation_matrix": relation_dim * dim})

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The size of the translation vector."""
        return {"relation_dim": self.relation_dim}

    def part_init_range(self, part: str) -> float:
        """Matrices: variance 1 / dim, so that mapping does not change the length of a vector."""
        return (3 / self.dim) ** 0.5 if part == "relation_matrix" else super().part_init_range(part)

    @property
    def pair_numbers(self) -> int:
        """The size of a mapped candidate."""
        return self.relation_dim

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the squared distance, at most 0."""
        translation, matrix = self._parts(relation)
        mapped_head, mapped_tail = ((matrix @ each[..., None])[..., 0] for each in (head, tail))
        return -(mapped_head + translation - mapped_tail).square().sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """M h + r, then the matrix."""
        translation, matrix = self._parts(relation)
        return torch.cat([(matrix @ head[:, :, None])[:, :, 0] + translation, matrix.flatten(1)], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """M t - r, then the matrix."""
        translation, matrix = self._parts(relation)
        return torch.cat([(matrix @ tail[:, :, None])[:, :, 0] - translation, matrix.flatten(1)], dim=1)

    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """In blocks, because each query's matrix maps each candidate."""
        aim, matrix = query.split([self.relation_dim, self.relation_dim * self.dim], dim=1)
        return in_blocks(self._block, (aim, matrix), candidates, self.pair_numbers)

    def _block(
        self, aim: Float[Tensor, "C S K"], matrix: Float[Tensor, "C S W"], rows: Float[Tensor, "C n E"]
    ) -> Float[Tensor, "C S n"]:
        # One product for each chunk: the matrices of all its queries, stacked.
        stacked = matrix.reshape(len(rows), aim.shape[1] * self.relation_dim, self.dim)
        mapped = (stacked @ rows.transpose(1, 2)).view(*aim.shape, rows.shape[1])
        return -(aim[..., None] - mapped).square().sum(2)

    def _parts(self, relation: Float[Tensor, "*#b R"]) -> tuple[Float[Tensor, "*#b K"], Float[Tensor, "*#b K E"]]:
        translation, matrix = relation.split([self.relation_dim, self.relation_dim * self.dim], dim=-1)
        return translation, matrix.unflatten(-1, (self.relation_dim, self.dim))
