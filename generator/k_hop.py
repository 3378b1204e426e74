"""Structure-aware negatives (Ahrabian et al., Structure aware negative sampling in knowledge graphs, EMNLP 2020):
entities near the one that is kept."""

from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.pooled import PooledSampler
from generator.sampler import SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.known import per_positive
from graph.neighbours import Neighbours

_TRIES = 3
"""Walks for a negative: one that ends where it began is of no use."""


class Pool(StrEnum):
    """What is near."""

    EXACT = "exact"
    """All entities within `hops` steps, alike."""
    WALKS = "walks"
    """Ends of random walks, so an entity is as likely as walks end there: hubs, and what many short paths lead to."""


class KHopSampler(PooledSampler):
    """Draws from the entities within `hops` steps of the kept one in the undirected train graph, itself left out.

    Where there is none, a uniform entity stands in. Which pool, and what it takes:

    exact: a set for each entity, 4 bytes a member on every rank, made at the start of the run (FB15k-237: 1 hop 2 MB,
        2 hops 271 MB, 3 hops 670 MB). The paper counts walks of `hops` and of one step less instead, which takes in the
        anchor and with 2 hops the direct neighbours, but with 3 leaves out what is only one step away.
    walks: nothing. Each negative is a walk of its own, of 1 to `hops` steps, that starts at the anchor. The authors'
        code keeps the ends of a few thousand walks of `hops` steps for each entity, counts an end once however many
        walks it had, and goes on from the last end instead of from the anchor: a walk as long as all of them
        together, which has little to do with `hops`.

    Known to losses that correct for the proposal: with exact pools, and uniform_share above 0 (the target of a
    self-loop is in no pool).

    Args:
        hops: the most steps from the anchor.
        pool: "exact" or "walks".
        memory_mb: what exact pools may take on a rank.
        options: see `PooledSampler`.
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        hops: int,
        pool: str,
        memory_mb: int,
        **options: Any,
    ) -> None:
        super().__init__(context, **options)
        require_at_least("generator.hops", hops, 1)
        require_at_least("generator.memory_mb", memory_mb, 1)
        if pool not in list(Pool):
            raise InputError(f"generator.pool must be one of {', '.join(Pool)}, got {pool!r}")
        self.hops = hops
        device = context.site.device
        self.neighbours = Neighbours(context.train, context.num_entities, device)
        self.pools = self.neighbours.within(hops, memory_mb).to(device) if pool == Pool.EXACT else None

    @property
    def knows_proposal(self) -> bool:
        """See the class."""
        return super().knows_proposal and self.pools is not None and self.uniform_share > 0

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`; `score` is not asked."""
        self._batch = batch
        return super().propose(batch, score)

    def draw_own(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """See `PooledSampler.draw_own`."""
        if self.pools is None:
            return self._walk(batch, purpose)
        return self.pools.draw(batch.anchor, batch.uniform_per_positive(purpose, self.num_negatives))

    def _walk(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        count = self.num_negatives
        anchor = batch.anchor[:, None].expand(-1, count)
        end = anchor
        for number in range(_TRIES):
            back = end == anchor
            if number and not back.any():
                break
            uniform = batch.uniform_per_positive(f"{purpose}, walk {number}", count * (self.hops + 1))
            end = torch.where(back, self._end(anchor, uniform.view(-1, count, self.hops + 1)), end)
        return torch.where(end == anchor, -1, end)

    def _end(self, start: Int64[Tensor, "B N"], uniform: Float64[Tensor, "B N s"]) -> Int64[Tensor, "B N"]:
        """Where walks of 1 to `hops` steps end, all lengths alike."""
        further = uniform[:, :, 0] * self.hops
        end = self.neighbours.step(start, uniform[:, :, 1])
        for steps in range(1, self.hops):
            end = torch.where(further >= steps, self.neighbours.step(end, uniform[:, :, steps + 1]), end)
        return end

    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"] | None:
        """See `StaticSampler.log_probability`."""
        if self.pools is None or self.uniform_share == 0:
            return None
        anchor, uniform = batch.anchor, 1 / self.context.num_entities
        size = self.pools.size(anchor)[:, None].double()
        near = self.pools.contains(anchor, per_positive(entity, len(anchor))) / size
        return (self.uniform_share * uniform + (1 - self.uniform_share) * torch.where(size > 0, near, uniform)).log()

    def metrics(self) -> dict[str, Float64[Tensor, " B"]]:
        """Which share of draws a pool was to give and gave none, so that uniform ones stood in."""
        # Drawn a second time, which costs less than to keep them for the few steps that are logged.
        return {"generator/no_pool": (self.draw_own(self._batch, "negatives") < 0).double().mean(1)}
