"""Uniform negatives (Bordes et al., Translating embeddings for modeling multi-relational data, NIPS 2013)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.static import StaticSampler
from graph.batch import Batch


class UniformSampler(StaticSampler):
    """Draws entities uniformly, with replacement; head and tail are corrupted equally often (Bordes et al. 2013).

    `propose` returns entities [C, N], shared by the positives of a chunk. A draw costs one random number. With
    `redraw_known` (which needs trainer.chunk_size=1) draws are uniform over the entities that make no train fact.

    Args:
        options: see `StaticSampler`.
    """

    # A default above it would only repeat entities.
    bounded_by_entities: ClassVar[Mapping[str, int]] = {"num_negatives": 0}
    draws_resident = True

    def __init__(self, context: SamplerContext, **options: Any) -> None:
        super().__init__(context, **options)
        log_q = -math.log(context.num_entities)
        self._log_q = torch.full((1, 1), log_q, dtype=torch.float64, device=context.site.device)

    @property
    def repeats(self) -> bool:
        """True unless known facts are looked up, which is done for each side by itself."""
        return not self.mask_known and not self.redraw_known

    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "C N"]:
        """See `StaticSampler.draw`."""
        return batch.entities(purpose, self.num_negatives, self.context.num_entities)

    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """-log(number of entities that are in memory) everywhere; a view of one number."""
        log_q = self._log_q if batch.resident is None else torch.full_like(self._log_q, -math.log(batch.resident.count))
        return log_q.expand(len(batch.head), entity.shape[1])
