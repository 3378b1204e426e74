"""The best heads or tails of queries, among all entities or some of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from answers.best import Allowed, Best
from embedding.best_of_table import best_of_table
from embedding.model import KGEModel
from graph.known import KnownFacts

_MOST_QUERIES = 512
"""The most queries that one pass over the table answers. More would not be faster, and their scores take memory."""


@dataclass(frozen=True)
class EntityQueries:
    """Q queries: for heads, of each (relation, tail), or for tails, of each (head, relation). On the CPU."""

    anchor: Int64[Tensor, " Q"]
    """The entity that is given."""
    relation: Int64[Tensor, " Q"]
    of_heads: bool

    def __len__(self) -> int:
        return len(self.anchor)

    def of(self, place: Int64[Tensor, " q"] | slice) -> "EntityQueries":
        """Some of the queries."""
        return EntityQueries(self.anchor[place], self.relation[place], self.of_heads)


@torch.no_grad()
def best_entities(
    model: KGEModel,
    known: KnownFacts,
    queries: EntityQueries,
    count: int,
    allowed: Allowed,
    *,
    among: Int64[Tensor, " A"] | None,
    progress: Callable[[int], object],
) -> Best:
    """The best answers of each query, all from the same candidates. Collective.

    Args:
        count: the most answers of a query.
        allowed: `known` and `loops` count here; `among` says instead of `unseen` which entities are candidates.
        among: the candidates, distinct entities; None: all entities.
        progress: see `best_of_table`.
    Raises:
        InputError: a score is nan or infinite.
    """
    if among is not None:
        among = among.to(model.site.device)
    best = Best.none(len(queries), min(count, len(model.entity.row_of_entity if among is None else among)))
    if best.answer.numel():
        for place in torch.arange(len(queries)).split(_MOST_QUERIES):
            part = queries.of(place)
            best.put(place, _answered(model, known, part, best.answer.shape[1], allowed, among, progress))
    return best


def _answered(
    model: KGEModel,
    known: KnownFacts,
    queries: EntityQueries,
    count: int,
    allowed: Allowed,
    among: Int64[Tensor, " A"] | None,
    progress: Callable[[int], object],
) -> Best:
    device, index = model.site.device, known.heads if queries.of_heads else known.tails
    anchor, relation = queries.anchor.to(device), queries.relation.to(device)
    row, heads = model.asked(relation, len(queries) if queries.of_heads else 0)
    score = model.scoring.scorer(model.entity(anchor), model.scorer.relation_rows(row), of_heads=heads > 0)
    none = (anchor[:0], anchor[:0])
    facts = none if allowed.known else index.answers(anchor, relation)
    loops = none if allowed.loops else (torch.arange(len(anchor), device=device), anchor)
    left_out = (torch.cat([facts[0], loops[0]]), torch.cat([facts[1], loops[1]]))
    found = best_of_table(model, score, len(queries), count, left_out=left_out, among=among, progress=progress)
    entity, value = found.filled()
    there = value.isfinite()
    is_known = index.contains(anchor, relation, entity) & there
    return Best(entity.where(there, 0).cpu(), value.cpu(), is_known.cpu())
