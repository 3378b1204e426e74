"""Negatives by degree: entities of many triples are drawn more often, like words in word2vec (Mikolov et al. 2013)."""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.static import StaticSampler
from graph.answer_index import per_positive
from graph.batch import Batch
from graph.errors import InputError


class DegreeSampler(StaticSampler):
    """Draws entities with probability proportional to degree ** power, as word2vec draws words (Mikolov et al. 2013).

    The degree of an entity counts the train triples in which it is the head, plus those in which it is the tail. With
    a power above 0, an entity without train triples is never drawn. Entities are [C, N], shared by a chunk. A draw
    costs one binary search.

    Args:
        power: at least 0. 0 draws uniformly, 1 in proportion to the degree; word2vec uses 0.75.
        options: see `StaticSampler`.
    """

    def __init__(self, context: SamplerContext, *, power: float, **options: Any) -> None:
        super().__init__(context, **options)
        if power < 0:  # entities of degree 0 would get infinite weight
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
