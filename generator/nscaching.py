"""NSCaching (Zhang et al., NSCaching: simple and efficient negative sampling for knowledge graph embedding, ICDE 2019,
arXiv 1812.06410): for each query a cache of hard negatives, which follows the model.

Unlike the authors' code, which inverts a mask bitwise and so corrupts both ends, a positive's negatives replace the one
entity on its corrupted side.
"""

from enum import StrEnum

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from generator.distinct_draws import LAST, repeated
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives
from graph.counter_random import gumbel, paired_integers, stream
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids
from graph.keys import QueryKeys


class Select(StrEnum):
    """Which entities of a pool the cache keeps."""

    IMPORTANCE = "importance"
    """Drawn without replacement, with probability proportional to exp(score / temperature)."""
    TOP = "top"
    """Those of highest score."""


class NSCachingSampler(NegativeSampler):
    """Draws uniformly from the cache of a positive's query, (relation, tail) or (head, relation).

    After the draw the caches of the batch's queries are refreshed: each keeps `cache_size` of its own entities and
    `fresh_size` new uniform ones together, by the discriminator's scores. Of several positives of a batch with one
    query, the first one's refresh is kept. Both the draws and the scored pools are each positive's own, [B, N], at
    every chunk_size: a refresh costs cache_size + fresh_size scores a positive. Caches take 4 bytes an entry,
    partitioned over ranks (30 MB for the 149,689 queries of FB15k-237 with 50 entries), and as much in a checkpoint.

    Args:
        num_negatives: draws from the cache for each positive, with replacement.
        cache_size: N1 of the paper.
        fresh_size: N2 of the paper.
        temperature: divides the scores before the softmax of `select=importance`; low ones keep the hardest.
        select: what a cache keeps: "importance" or "top".
        refresh_epochs: caches are refreshed in every so manieth epoch (n + 1 of the paper's lazy update).
        mask_known: keep train facts out of the caches, and leave those that a cache began with out of the loss.
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        num_negatives: int,
        cache_size: int,
        fresh_size: int,
        temperature: float,
        select: str,
        refresh_epochs: int,
        mask_known: bool,
    ) -> None:
        super().__init__(context)
        expect_int32_ids("generator=nscaching", context.num_entities)
        for key, value in (("cache_size", cache_size), ("fresh_size", fresh_size), ("refresh_epochs", refresh_epochs)):
            require_at_least(f"generator.{key}", value, 1)
        if select not in list(Select):
            raise InputError(f"generator.select must be one of {', '.join(Select)}, got {select!r}")
        self.num_negatives = num_negatives
        self.cache_size = cache_size
        self.fresh_size = fresh_size
        self.temperature = temperature
        self.select = Select(select)
        self.refresh_epochs = refresh_epochs
        self.mask_known = mask_known
        self.check_options()
        self.keys = QueryKeys(context.known)
        self.caches = KeyedRows(context.site, self.keys.num_keys, cache_size)
        self.start_stage()

    def check_options(self) -> None:
        """At least one draw, and a temperature above 0."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)
        if self.temperature <= 0:
            raise InputError(f"generator.temperature must be positive, got {self.temperature}")

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """As in `BernoulliSampler`."""
        return self.context.statistics.head_probability

    def start_stage(self) -> None:
        """Caches of uniform entities, a function of (seed, query)."""
        key = stream("first caches", self.context.site.seed)
        self.caches.row.copy_(paired_integers(key, self.caches.key, self.cache_size, self.context.num_entities))

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Draws from the caches, then refreshes them."""
        key = self.keys.of(batch)
        cached = self.caches.fetch(key)
        place = batch.integers_per_positive("places in the cache", self.num_negatives, self.cache_size)
        entity = cached.gather(1, place)
        self._replaced = torch.zeros(len(key), dtype=torch.float64, device=key.device)
        if batch.epoch % self.refresh_epochs == 0:
            self._refresh(batch, key, cached, score)
        return Negatives(entity, known=self.context.known.contains(batch, entity) if self.mask_known else None)

    def _refresh(
        self, batch: Batch, key: Int64[Tensor, " B"], cached: Int64[Tensor, "B K"], score: ScoreCandidates
    ) -> None:
        fresh = batch.integers_per_positive("fresh candidates", self.fresh_size, self.context.num_entities)
        pool = torch.cat([cached, fresh], dim=1)
        value = score(pool).double()
        if self.select == Select.IMPORTANCE:
            value = value / self.temperature + gumbel(batch.uniform_per_positive("kept in the cache", pool.shape[1]))
        value = value.masked_fill(repeated(pool), LAST)
        if self.mask_known:
            value = value.masked_fill(self.context.known.contains(batch, pool), -torch.inf)
        kept = value.topk(self.cache_size, dim=1).indices
        self.caches.store(key, batch.slots(batch.chunk), pool.gather(1, kept))
        self._replaced = (kept >= self.cache_size).double().mean(1)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The share of each cache that was new after its refresh; 0 where there was none."""
        return {"generator/cache_replaced": self._replaced}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The caches."""
        return {"caches": self.caches}
