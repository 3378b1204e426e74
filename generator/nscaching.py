"""NSCaching (Zhang et al., NSCaching: simple and efficient negative sampling for knowledge graph embedding, ICDE 2019,
arXiv 1812.06410): a cache of hard negatives for each query, updated with the model's scores.

The authors' code inverts a mask bitwise, and so replaces both head and tail. Here a negative replaces only the entity
on the corrupted side.
"""

from collections.abc import Callable
from enum import StrEnum

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedLookup, KeyedRows
from generator.distinct_draws import LAST, repeated
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least, unchanged
from graph.batch import Batch, Negatives
from graph.counter_random import gumbel, paired_integers, stream
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids
from graph.keys import QueryKeys
from kernels.largest import largest

_AT_ONCE = 1 << 16
"""Caches that are filled at a time: the numbers come as int64, twice as large as the caches."""


class Select(StrEnum):
    """Which candidates a cache keeps at a refresh."""

    IMPORTANCE = "importance"
    """Candidates drawn without replacement, with probability proportional to exp(score / temperature)."""
    TOP = "top"
    """The candidates of highest score."""


class NSCachingSampler(NegativeSampler):
    """Draws uniformly from a cache of hard entities that each query has, (relation, tail) or (head, relation).

    The method is that of Zhang et al. (2019). After the draw the caches of the batch's queries are refreshed: the
    entities of a cache and `fresh_size` new uniform ones are scored by the discriminator, and `cache_size` of them are
    kept. If a batch has several positives with one query, the refresh of the first is kept. Caches start with uniform
    entities.

    `propose` returns entities [B, N]: each positive has its own, whatever the chunk_size. A refresh costs
    cache_size + fresh_size scores for each positive. Caches take 4 bytes an entry over all ranks together (30 MB for
    the 149,689 queries of FB15k-237 with cache_size=50), and as much in a checkpoint. `max_caches` bounds them.
    Every rank also has 4 bytes a cache.

    Args:
        num_negatives: draws from the cache for each positive, with replacement.
        cache_size: entities in a cache, N1 of the paper.
        fresh_size: new uniform candidates at a refresh, N2 of the paper.
        temperature: divides the scores before the softmax of `select=importance`; a lower one keeps harder entities.
        select: which candidates a cache keeps, "importance" or "top"; see `Select`.
        refresh_epochs: refresh caches in one of every refresh_epochs epochs (n + 1 of the paper's lazy update).
        max_caches: at most so many caches; None: one for each query. If there are more queries, a hash of the query
            chooses its cache, so queries that share one also share its entities.
        mask_known: keep train facts out of the caches at a refresh, and leave negatives that are train facts out of the
            loss.
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
        max_caches: int | None,
        mask_known: bool,
    ) -> None:
        super().__init__(context)
        expect_int32_ids("generator=nscaching", context.num_entities)
        for key, value in (("cache_size", cache_size), ("fresh_size", fresh_size), ("refresh_epochs", refresh_epochs)):
            require_at_least(f"generator.{key}", value, 1)
        if max_caches is not None:
            require_at_least("generator.max_caches", max_caches, 1)
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
        queries = self.keys.num_keys
        caches = queries if max_caches is None else min(queries, max_caches)
        name = f"generator.cache_size, generator.max_caches: {caches:,} caches of {cache_size} entities"
        self.caches = KeyedRows(context.site, caches, cache_size, name=name, num_ids=context.num_entities)
        self.start_stage()

    def check_options(self) -> None:
        """Requires num_negatives >= 1 and temperature > 0."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)
        if self.temperature <= 0:
            raise InputError(f"generator.temperature must be positive, got {self.temperature}")

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """tph / (tph + hpt) of each relation, as in `BernoulliSampler`."""
        return self.context.statistics.head_probability

    def start_stage(self) -> None:
        """Fills the caches with uniform entities, a function of (seed, query)."""
        stream_key = stream("first caches", self.context.site.seed)
        for key, row in zip(self.caches.key.split(_AT_ONCE), self.caches.row.split(_AT_ONCE), strict=True):
            row.copy_(paired_integers(stream_key, key, self.cache_size, self.context.num_entities))

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Draws from the caches, then refreshes those of the batch's queries. Collective."""
        cached = self.caches.look_up(self._cache_of(self.keys.of(batch)))
        place = batch.integers_per_positive("places in the cache", self.num_negatives, self.cache_size)
        entity = cached.row.gather(1, place).long()
        self._replaced = torch.zeros(len(entity), dtype=torch.float64, device=entity.device)
        if batch.epoch % self.refresh_epochs == 0:
            self._refresh(batch, cached, score)
        return Negatives(entity, known=self.context.known.contains(batch, entity) if self.mask_known else None)

    def _cache_of(self, query: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """The number of each query's cache."""
        if self.caches.num_keys == self.keys.num_keys:
            return query
        key = stream("caches that queries share", self.context.site.seed)
        return paired_integers(key, query, 1, self.caches.num_keys)[:, 0]

    def _refresh(self, batch: Batch, cached: KeyedLookup, score: ScoreCandidates) -> None:
        fresh = batch.integers_per_positive("fresh candidates", self.fresh_size, self.context.num_entities)
        pool = torch.cat([cached.row, fresh], dim=1)
        value = score(pool).double()
        if self.select == Select.IMPORTANCE:
            value = value / self.temperature + gumbel(batch.uniform_per_positive("kept in the cache", pool.shape[1]))
        value = value.masked_fill(repeated(pool), LAST)
        if self.mask_known:
            value = value.masked_fill(self.context.known.contains(batch, pool), -torch.inf)
        kept = largest(value, self.cache_size)
        self.caches.store(cached, batch.slots(batch.chunk), pool.gather(1, kept).int())
        self._replaced = (kept >= self.cache_size).double().mean(1)

    def undo(self) -> Callable[[], object] | None:
        """See `NegativeSampler.undo`: a step changes keyed rows alone."""
        return unchanged

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The share of entities that the last refresh replaced in each cache; 0 in a step without refresh."""
        return {"generator/cache_replaced": self._replaced}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The caches."""
        return {"caches": self.caches}
