"""TransH (Wang et al., Knowledge graph embedding by translating on hyperplanes, AAAI 2014): -||h' + d - t'||_2^2.

An entity e is projected to the hyperplane of a relation, e' = e - (w . e) w, whose normal w has length 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidate_blocks import by_chunk
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from embedding.scoring.unit import unit


class TransH(QueryScoring):
    """Minus the squared distance of the translated head from the tail, both projected to the relation's hyperplane.

    A relation row holds the translation, then the normal. The score divides the normal by its norm. The paper's soft
    constraint that translations lie in their hyperplanes is part of its loss, and is left out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, {"entity": dim}, {"relation": dim, "relation_normal": dim})

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the squared distance, at most 0."""
        translation, normal = _parts(relation)
        return -(_project(head, normal) + translation - _project(tail, normal)).square().sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """h' + d, then the normal."""
        translation, normal = _parts(relation)
        return torch.cat([_project(head, normal) + translation, normal], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """t' - d, then the normal."""
        translation, normal = _parts(relation)
        return torch.cat([_project(tail, normal) - translation, normal], dim=1)

    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """-|q - c'|^2 = -(|q|^2 - 2 q . c + |c|^2 + 2 a (q . w) - a^2) with a = w . c: two matrix products."""
        rows = candidates.rows()
        aim, normal = by_chunk(query, len(rows)).chunk(2, dim=2)
        along = normal @ rows.transpose(1, 2)
        aim_square, aim_along = (aim.square().sum(2, keepdim=True), (aim * normal).sum(2, keepdim=True))
        square = aim_square - 2 * (aim @ rows.transpose(1, 2)) + rows.square().sum(2)[:, None]
        # Rounding can make it slightly negative.
        return -(square + along * (2 * aim_along - along)).clamp(min=0).flatten(0, 1)


def _parts(relation: Float[Tensor, "*#b R"]) -> tuple[Float[Tensor, "*#b E"], Float[Tensor, "*#b E"]]:
    translation, normal = relation.chunk(2, dim=-1)
    return translation, unit(normal)


def _project(entity: Float[Tensor, "*#b E"], normal: Float[Tensor, "*#b E"]) -> Float[Tensor, "*b E"]:
    return entity - (normal * entity).sum(-1, keepdim=True) * normal
