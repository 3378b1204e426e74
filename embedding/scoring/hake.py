"""HAKE (Zhang et al., Learning hierarchy-aware knowledge graph embeddings for link prediction, AAAI 2020).

-w_m ||h_m * |r_m| - t_m||_2 - w_p sum |sin((h_p + r_p - t_p) / 2)|. Moduli distinguish the levels of a hierarchy,
phases the entities of one level.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.candidate_blocks import in_blocks
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError


class HAKE(QueryScoring):
    """Minus the weighted distances of moduli and of phases; both weights are learned, `modulus_weight`, `phase_weight`.

    Rows hold dim moduli, then dim phases in radians. The paper's variant with a mixture bias is left out.

    Args:
        modulus_weight: initial value of w_m; at least 0, so that a larger distance is less plausible.
        phase_weight: initial value of w_p; at least 0.
    """

    def __init__(self, dim: int, modulus_weight: float, phase_weight: float) -> None:
        for name, value in (("modulus_weight", modulus_weight), ("phase_weight", phase_weight)):
            if value < 0:
                raise InputError(f"{name} must be at least 0, got {value}")
        super().__init__(dim, {"entity": dim, "entity_phase": dim}, {"relation": dim, "relation_phase": dim})
        self.modulus_weight = self.dense_parameter("modulus_weight", (1,), modulus_weight, modulus_weight)
        self.phase_weight = self.dense_parameter("phase_weight", (1,), phase_weight, phase_weight)

    def part_init_range(self, part: str) -> float:
        """Phases: pi. Moduli of relations: mean square 1, so that they do not change the length of entity moduli."""
        if part.endswith("phase"):
            return math.pi
        return super().part_init_range(part) if part == "entity" else 3**0.5

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Minus the distance."""
        (h, h_phase), (r, r_phase), (t, t_phase) = (row.chunk(2, dim=-1) for row in (head, relation, tail))
        return self._weighed(h * r.abs() - t, ((h_phase + r_phase - t_phase) / 2).sin())

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """h_m * |r_m|, h_p + r_p, then ones: the factors of a tail's moduli."""
        (h, h_phase), (r, r_phase) = head.chunk(2, dim=1), relation.chunk(2, dim=1)
        return torch.cat([h * r.abs(), h_phase + r_phase, torch.ones_like(r)], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """t_m, t_p - r_p, then |r_m|: the factors of a head's moduli."""
        (t, t_phase), (r, r_phase) = tail.chunk(2, dim=1), relation.chunk(2, dim=1)
        return torch.cat([t, t_phase - r_phase, r.abs()], dim=1)

    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """In blocks, because each pair of query and candidate has a sine for each coordinate."""
        return in_blocks(self._block, query.chunk(3, dim=1), candidates)

    def _block(
        self,
        modulus: Float[Tensor, "C S D"],
        phase: Float[Tensor, "C S D"],
        factor: Float[Tensor, "C S D"],
        rows: Float[Tensor, "C n E"],
    ) -> Float[Tensor, "C S n"]:
        row_modulus, row_phase = rows[:, None].chunk(2, dim=3)
        half, row_half = phase[:, :, None] / 2, row_phase / 2
        # sin(a - b) from the sines and cosines of queries and candidates: fewer sines than one for each pair.
        sine = half.sin() * row_half.cos() - half.cos() * row_half.sin()
        return self._weighed(modulus[:, :, None] - factor[:, :, None] * row_modulus, sine)

    def _weighed(self, difference: Float[Tensor, "*b D"], sine: Float[Tensor, "*b D"]) -> Float[Tensor, "*b"]:
        of_moduli, of_phases = torch.linalg.vector_norm(difference, 2, dim=-1), sine.abs().sum(-1)
        # In float64, so that the weights' gradients are summed in it.
        total = self.modulus_weight * of_moduli.double() + self.phase_weight * of_phases.double()
        return -total.to(difference.dtype)
