"""Negatives by degree: entities of many triples more often, as words are in word2vec (Mikolov et al., NIPS 2013)."""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.static import StaticSampler
from graph.batch import Batch
from graph.errors import InputError
from graph.known import per_positive


class DegreeSampler(StaticSampler):
    """Entities drawn with probability proportional to degree ** power; the positives of a chunk share them.

    Degree is how often an entity is a head or a tail of a train triple. With a power above 0 an entity that train does
    not have is never drawn.

    Args:
        power: 0 for uniform negatives, 1 for those of in-batch sampling, between for a compromise.
        options: see `StaticSampler`.
    """

    def __init__(self, context: SamplerContext, *, power: float, **options: Any) -> None:
        super().__init__(context, **options)
        if power < 0:  # which would give entities without triples all of the probability
            raise InputError(f"generator.power must be at least 0, got {power}")
        weight = context.statistics.entity_degree.double() ** power
        device = context.site.device
        self.cumulative = weight.cumsum(0).to(device)
        self.log_share = (weight / weight.sum()).log().to(device)

    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "C N"]:
        """See `StaticSampler.draw`."""
        uniform = batch.uniform(purpose, self.num_negatives)
        return torch.searchsorted(self.cumulative, uniform * self.cumulative[-1])

    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """See `StaticSampler.log_probability`."""
        return per_positive(self.log_share[entity], len(batch.head))
