"""Structure-aware negatives (Ahrabian et al., Structure aware negative sampling in knowledge graphs, EMNLP 2020).

Negatives are entities near the one that is kept, the *anchor*: the tail if the head is corrupted, else the head.
"""

from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.pooled import PooledSampler
from generator.sampler import SamplerContext, ScoreCandidates, require_at_least
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.neighbours import Neighbours

_TRIES = 3
"""Random walks tried for a negative: a walk that ends at the anchor is repeated."""


class Pool(StrEnum):
    """How nearby entities are found."""

    EXACT = "exact"
    """All entities within `hops` steps, with equal probability."""
    WALKS = "walks"
    """The ends of random walks. Hubs, and entities that many short paths lead to, are more likely."""


class KHopSampler(PooledSampler):
    """Draws entities at most `hops` steps from the kept one in the undirected train graph (Ahrabian et al. 2020, SANS).

    `propose` returns entities [B, N]. The anchor itself is never drawn. A uniform entity is drawn where an anchor has
    no others near.

    pool=exact stores the set of nearby entities for each entity, at the start of the run: 4 bytes a member on every
    rank (FB15k-237: 2 MB for 1 hop, 271 MB for 2, 670 MB for 3). The paper's sets differ: they have the ends of all
    walks of exactly `hops` and `hops` - 1 steps. These include the anchor, and for 3 hops lack direct neighbours.

    pool=walks stores only the train edges. Each negative is the end of a new random walk of 1 to `hops` steps from the
    anchor. The authors' code differs: it keeps the distinct ends of a few thousand walks for each entity, and starts
    each walk where the previous one ended. That is one long walk, which may lead far beyond `hops` steps.

    `Negatives.proposal` is set with pool=exact and uniform_share above 0. (With uniform_share=0 the target of a
    self-loop can't be drawn.)

    Args:
        hops: the largest distance from the anchor, in steps.
        pool: "exact" or "walks".
        memory_mb: the most memory that exact pools may take on a rank, in megabytes.
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
        """True with exact pools and uniform_share above 0, unless train facts are redrawn."""
        return super().knows_proposal and self.pools is not None and self.uniform_share > 0

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `StaticSampler.propose`; does not call `score`."""
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
        """The ends of random walks; each length from 1 to `hops` steps is equally likely."""
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
        """The share of draws for which the pool had no entity, so that a uniform one was drawn."""
        # Drawing again for the few steps that are logged costs less than keeping the draws of every step.
        return {"generator/no_pool": (self.draw_own(self._batch, "negatives") < 0).double().mean(1)}
