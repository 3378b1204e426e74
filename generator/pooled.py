"""Samplers that draw from a pool of each positive's own, which training does not change."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.static import StaticSampler
from graph.batch import Batch
from graph.errors import InputError


class PooledSampler(StaticSampler):
    """Draws from each positive's pool; a share of the draws is uniform over all entities instead.

    Negatives of one's own are [B, N] at every chunk_size, so their scores are no matrix products.

    Args:
        uniform_share: the probability that a draw is uniform.
        options: see `StaticSampler`.
    """

    own_negatives = True

    def __init__(self, context: SamplerContext, *, uniform_share: float, **options: Any) -> None:
        super().__init__(context, **options)
        if not 0 <= uniform_share <= 1:
            raise InputError(f"generator.uniform_share must be from 0 to 1, got {uniform_share}")
        self.uniform_share = uniform_share

    @abstractmethod
    def draw_own(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """Independent draws from the pool of each positive; -1 where it gives none, for which uniform ones stand in."""

    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """See `StaticSampler.draw`."""
        own, count = self.draw_own(batch, purpose), self.num_negatives
        uniform = batch.integers_per_positive(f"{purpose}, uniform", count, self.context.num_entities)
        chosen = own < 0
        if self.uniform_share > 0:
            chosen |= batch.uniform_per_positive(f"{purpose}, uniform or own", count) < self.uniform_share
        return torch.where(chosen, uniform, own)
