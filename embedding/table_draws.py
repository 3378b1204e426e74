"""Draws from the softmax over the scores of all entities, whose rows are spread over the ranks."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.exchange import gather_ranks, return_to_ranks
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from embedding.table_queries import Answers, queries_of_all_ranks
from graph.batch import Batch
from graph.counter_random import combine, gumbel, paired_uniform, stream

_BLOCK_ROWS = 1024
"""Entities in a block, which has one stream of random numbers; few enough for scores to stay in the cache."""


@torch.no_grad()
def draw_entities(
    model: KGEModel, batch: Batch, count: int, purpose: str, excluded: Answers | None = None
) -> Int64[Tensor, "B {count}"]:
    """Draws `count` entities for each query, without replacement, from the softmax of the scores of all entities.

    The Gumbel-top-k trick (Kool et al., Stochastic beams and where to find them, ICML 2019) gives them in the order of
    the draws, so the first column is one draw from the softmax. Random numbers are a function of (purpose, seed, epoch,
    chunk) and of the entity's row in the whole table. Collective.

    Args:
        purpose: names the stream of random numbers.
        excluded: entities of queries that are drawn only if there are too few others.
    """
    key = stream(purpose, batch.seed, batch.epoch)
    anchor, relation, heads = model.query_rows(batch)
    rank, ranks = model.site.part
    slot = torch.arange(batch.chunk_size, device=batch.chunk.device)
    counter = combine(batch.chunk[:, None], slot).flatten()
    found = []
    rows, entities = model.entity.readable, model.entity.entity_of_readable
    sides = queries_of_all_ranks(model, anchor, relation, heads, excluded)
    for side, mine in zip(sides, counter.split([heads, len(anchor) - heads]), strict=True):
        counters = torch.cat(gather_ranks(mine, ranks))
        score = model.scoring.scorer(torch.cat(side.anchor), torch.cat(side.relation), of_heads=side.of_heads)
        best = BestEntities(len(counters), count, anchor.device)
        for first, last in _aligned(model):
            value = side.without_excluded(
                score(Candidates.of(rows[first:last][None].to(model.site.dtype))), first
            ).double()
            value += _gumbel(model, key, counters, first, last)
            best.add(entities[first:last], value)
        parts = [return_to_ranks(list(each.split(side.sizes)), rank) for each in best.filled()]
        entity, value = (part.transpose(0, 1).flatten(1) for part in parts)
        of_all = BestEntities(len(mine), count, anchor.device)
        of_all.add(entity, value)
        found.append(of_all.entity)
    return torch.cat(found)


def _aligned(model: KGEModel) -> Iterator[tuple[int, int]]:
    """The rows that this rank reads as ranges [first, last), from its first on, cut at blocks of the whole table."""
    start, stop = model.site.placement.block(*model.site.part)
    cuts = [start, *range(start - start % _BLOCK_ROWS + _BLOCK_ROWS, stop, _BLOCK_ROWS), stop]
    return ((first - start, last - start) for first, last in pairwise(cuts) if first < last)


def _gumbel(model: KGEModel, key: int, counter: Int64[Tensor, " Q"], first: int, last: int) -> Float64[Tensor, "Q n"]:
    """Gumbel noise for each query and each of the rows [first, last) here, keyed by the row in the whole table."""
    start = model.site.placement.block(*model.site.part)[0] + first
    block, place = divmod(start, _BLOCK_ROWS)
    outer = combine(counter, torch.tensor(block, device=counter.device))
    uniform = paired_uniform(key, outer, _BLOCK_ROWS)[:, place : place + last - first]
    return gumbel(uniform)
