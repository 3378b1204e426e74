"""Base of samplers that draw from a fixed pool of entities for each positive."""

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
    """Draws from a pool that each positive has. Some draws are uniform over all entities instead.

    `propose` returns entities [B, N]: each positive has its own, whatever the chunk_size. So their scores can't be
    computed as one matrix product for a chunk, and cost more than shared ones.

    Args:
        uniform_share: the probability that a draw is uniform over all entities, from 0 to 1.
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
        """Independent draws from the pool of each positive; -1 where it has none, which `draw` makes a uniform draw."""

    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """See `StaticSampler.draw`."""
        own, count = self.draw_own(batch, purpose), self.num_negatives
        uniform = batch.integers_per_positive(f"{purpose}, uniform", count, self.context.num_entities)
        chosen = own < 0
        if self.uniform_share > 0:
            chosen |= batch.uniform_per_positive(f"{purpose}, uniform or own", count) < self.uniform_share
        return torch.where(chosen, uniform, own)
