"""Finds the most plausible facts that a graph lacks, without scoring all pairs of entities."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from answers.best import PLAIN
from answers.completions import Completions
from answers.entity_queries import EntityQueries, best_entities
from graph.answer_index import Answers
from graph.counter_random import random_bits, stream
from trainer.progress_bar import progress_bar

_MOST_HEADS = 4096
"""Heads whose best tails are held at a time."""


@dataclass(frozen=True)
class Limits:
    """How many facts are found, and where they are looked for."""

    count: int
    """The most facts in all."""
    per_relation: int | None
    """The most facts of a relation; None: no limit."""
    per_head: int | None
    """The most facts of a relation with the same head, so that one entity does not fill the list; None: no limit."""
    heads: int | None
    """The most heads of a relation that are looked at; of more, a uniform sample by the seed. None: all."""
    overlap: float
    """Which entities a slot may have: see `Slots.alike`."""
    seed: int
    only_missing: str | None = None
    """"heads": only heads that have no known tail with the relation; "tails": only tails that have no known head;
    "both": only pairs of such; None: all."""


@dataclass(frozen=True)
class Discovered:
    """Facts that the graph lacks, the highest score first; of equal scores, lower ids of relation, head, tail first."""

    triples: Int64[Tensor, "N 3"]
    score: Float64[Tensor, " N"]
    scored: int
    """Pairs (head, tail) that were scored, over all relations."""
    pairs: int
    """Pairs that there are: entities x entities x relations."""


def discover(completions: Completions, relations: Sequence[int], limits: Limits) -> Discovered:
    """The most plausible facts of some relations that are not in train, valid or test. Collective.

    Heads are the entities that train has in the head slot of the relation, and those of similar slots
    (`Slots.alike`); tails likewise. For each head the best tails are found; the best of all these pairs are the result.
    Pairs of an entity with itself are left out. Scores are those of tails.

    Args:
        relations: their ids, distinct.
    Raises:
        InputError: the model gives scores that are nan or infinite.
    """
    slots, count = completions.slots, min(limits.count, limits.per_relation or limits.count)
    places = [(_heads(completions, each, limits), _tails(completions, each, limits)) for each in relations]
    scored = sum(len(heads) * len(tails) for heads, tails in places)
    best = _Found.none()
    with progress_bar("pairs", scored // completions.runtime.world_size, completions.runtime) as progress:
        for relation, (heads, tails) in zip(relations, places, strict=True):
            of_relation = _Found.none()
            for part in heads.split(_MOST_HEADS) if len(heads) and len(tails) else ():
                queries = EntityQueries(part, torch.full_like(part, relation), of_heads=False)
                found = best_entities(
                    completions.model,
                    completions.known,
                    queries,
                    min(limits.per_head or count, count),
                    PLAIN,
                    among=tails,
                    progress=progress,
                )
                of_relation = of_relation.with_best(_Found.of(queries, found.answer, found.score), count)
            best = best.with_best(of_relation, limits.count)
    return Discovered(best.triples, best.score, scored, len(relations) * slots.num_entities**2)


def _heads(completions: Completions, relation: int, limits: Limits) -> Int64[Tensor, " H"]:
    """The heads that are looked at, ascending."""
    slots = completions.slots
    heads = slots.alike(slots.head(relation), limits.overlap)
    if limits.only_missing in ("heads", "both"):
        heads = _without_facts(heads, relation, completions.known.tails, completions)
    if limits.heads is None or len(heads) <= limits.heads:
        return heads
    order = random_bits(stream("discover heads", limits.seed, relation), heads).argsort()
    return heads[order[: limits.heads]].sort().values


def _tails(completions: Completions, relation: int, limits: Limits) -> Int64[Tensor, " T"]:
    """The tails that are looked at, ascending."""
    tails = completions.slots.alike(completions.slots.tail(relation), limits.overlap)
    if limits.only_missing in ("tails", "both"):
        tails = _without_facts(tails, relation, completions.known.heads, completions)
    return tails


def _without_facts(
    entity: Int64[Tensor, " E"], relation: int, index: Answers, completions: Completions
) -> Int64[Tensor, " F"]:
    """Those of the entities that have no fact with the relation in train, valid and test, on the index's side."""
    on_device = entity.to(completions.model.site.device)
    answered = index.answers(on_device, torch.full_like(on_device, relation))[0].cpu()
    keeps = torch.ones(len(entity), dtype=torch.bool)
    keeps[answered] = False
    return entity[keeps]


@dataclass(frozen=True)
class _Found:
    """Triples and their scores, best first."""

    triples: Int64[Tensor, "N 3"]
    score: Float64[Tensor, " N"]

    @classmethod
    def none(cls) -> "_Found":
        return cls(torch.empty((0, 3), dtype=torch.int64), torch.empty(0, dtype=torch.float64))

    @classmethod
    def of(cls, queries: EntityQueries, tail: Int64[Tensor, "Q k"], score: Float64[Tensor, "Q k"]) -> "_Found":
        """The answers of queries for tails, in the order of the queries."""
        columns = (each[:, None].expand(tail.shape) for each in (queries.anchor, queries.relation))
        there = score.isfinite()
        return cls(torch.stack([*columns, tail], dim=2)[there], score[there])

    def with_best(self, other: "_Found", count: int) -> "_Found":
        """The best of both."""
        triples, score = torch.cat([self.triples, other.triples]), torch.cat([self.score, other.score])
        order = torch.arange(len(score))
        for key in (triples[:, 2], triples[:, 0], triples[:, 1]):
            order = order[key[order].argsort(stable=True)]
        order = order[score[order].argsort(descending=True, stable=True)][:count]
        return _Found(triples[order], score[order])
