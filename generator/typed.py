"""Typed negatives (Krompass et al., Type-constrained representation learning in knowledge graphs, ISWC 2015): entities
that train has in the same place of the same relation, for want of real types (their local closed world)."""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.pooled import PooledSampler
from generator.sampler import SamplerContext
from graph.batch import Batch
from graph.entity_sets import EntitySets
from graph.int32_ids import expect_int32_ids
from graph.known import per_positive


class TypedSampler(PooledSampler):
    """A head is replaced by a head of other triples of its relation, a tail by a tail, all of them alike.

    The pools are seen in train alone: types that are read off all splits, as some published files are, tell a model
    what test has. Harder than uniform negatives, and more of them are missing facts. A place that has had few entities
    has a small pool, of which most may be train facts; `uniform_share` keeps the others trained too.

    Args:
        options: see `PooledSampler`.
    """

    def __init__(self, context: SamplerContext, **options: Any) -> None:
        super().__init__(context, **options)
        expect_int32_ids("generator=typed", context.num_entities)
        seen = context.statistics
        offset = torch.cat([seen.domain_offset, len(seen.domain_entity) + seen.range_offset[1:]])
        entity = torch.cat([seen.domain_entity, seen.range_entity]).int()
        self.pools = EntitySets(offset, entity).to(context.site.device)
        """The domain of each relation, then the range of each."""

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
