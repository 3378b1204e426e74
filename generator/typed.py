"""Typed negatives (Krompass et al., Type-constrained representation learning in knowledge graphs, ISWC 2015).

Entities get no types from outside. The domain and range of a relation are the heads and tails that it has in train (the
paper's local closed-world assumption).
"""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.pooled import PooledSampler
from generator.sampler import SamplerContext
from graph.answer_index import per_positive
from graph.batch import Batch
from graph.int32_ids import expect_int32_ids
from graph.slots import Slots


class TypedSampler(PooledSampler):
    """Draws a new head uniformly from all heads that the relation has in train, and a new tail from all its tails.

    The method is that of Krompass et al. (2015). `propose` returns entities [B, N]. The pools take 4 bytes for each
    distinct (relation, head) and (relation, tail). They come from train only: type files that are made from all splits
    tell the model about test.

    These negatives are harder than uniform ones, and more of them are missing facts. A relation with few heads or
    tails has a small pool, in which most entities may be train facts. Draws by `uniform_share` also train the scores
    of entities outside the pool.

    Args:
        options: see `PooledSampler`.
    """

    def __init__(self, context: SamplerContext, **options: Any) -> None:
        super().__init__(context, **options)
        expect_int32_ids("generator=typed", context.num_entities)
        self.pools = Slots.of(context.statistics).sets.to(context.site.device)
        """2 R sets: the domain of each relation, then the range of each relation."""

    def _pool(self, batch: Batch) -> Int64[Tensor, " B"]:
        split = batch.head_rows
        return torch.cat([batch.relation[:split], batch.relation[split:] + self.context.num_relations])

    def draw_own(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """See `PooledSampler.draw_own`."""
        return self.pools.draw(self._pool(batch), batch.uniform_per_positive(purpose, self.num_negatives))

    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """See `StaticSampler.log_probability`."""
        pool = self._pool(batch)
        typed = self.pools.contains(pool, per_positive(entity, len(pool))) / self.pools.size(pool)[:, None].double()
        return (self.uniform_share / self.context.num_entities + (1 - self.uniform_share) * typed).log()
