"""Statistics of the train triples: cardinality, corrupted side, domain and range of relations; degrees of entities."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int, Int32, Int64
from torch import Tensor

from graph.answer_index import AnswerIndex
from graph.known import KnownTriples

# A side with this mean or more is "N", otherwise "1" (Bordes et al., NIPS 2013, section 4.3; TransH does the same).
_MANY = 1.5
_BLOCK = 1 << 20
"""Queries that are counted at a time."""


class Cardinality(StrEnum):
    """The cardinality of a relation, the head side first: 1-N means that a head has many tails."""

    ONE_TO_ONE = "1-1"
    ONE_TO_MANY = "1-N"
    MANY_TO_ONE = "N-1"
    MANY_TO_MANY = "N-N"


@dataclass(frozen=True, eq=False)
class RelationStatistics:
    """Counts over the distinct train triples; repeated triples count once.

    tails_per_head: mean number of tails over the (head, relation) of train; 0 for a relation that is not in train
    heads_per_tail: mean number of heads over the (relation, tail) of train; 0 for a relation that is not in train
    head_probability: probability that the head is corrupted, tails_per_head / (tails_per_head + heads_per_tail):
        "bern" of TransH (Wang et al., AAAI 2014). The side with more true entities is corrupted less often, which
        gives fewer false negatives. 0.5 for a relation that is not in train
    cardinality: 1-1, 1-N, N-1 or N-N for each relation
    domain_offset: the distinct heads of relation r, ascending, are
        `domain_entity[domain_offset[r]:domain_offset[r + 1]]`
    range_offset: the same for the tails, in `range_entity`
    entity_degree: number of times that an entity is a head or a tail
    relation_triples: number of triples of each relation
    known: the train triples
    """

    tails_per_head: Float64[Tensor, " R"]
    heads_per_tail: Float64[Tensor, " R"]
    head_probability: Float64[Tensor, " R"]
    cardinality: tuple[Cardinality, ...]
    domain_offset: Int64[Tensor, " R+1"]
    range_offset: Int64[Tensor, " R+1"]
    entity_degree: Int64[Tensor, " E"]
    relation_triples: Int64[Tensor, " R"]
    known: KnownTriples

    @cached_property
    def domain_entity(self) -> Int32[Tensor, " H"]:
        """See `domain_offset`. Made when it is first asked for: few runs need it, and it may take gigabytes."""
        return _by_relation(self.known.tails.query, len(self.entity_degree), self.known.tails.num_relations)

    @cached_property
    def range_entity(self) -> Int32[Tensor, " K"]:
        """See `range_offset` and `domain_entity`."""
        return _by_relation(self.known.heads.query, len(self.entity_degree), self.known.tails.num_relations)

    @classmethod
    def of(cls, train: Int[Tensor, "T 3"], num_entities: int, num_relations: int) -> "RelationStatistics":
        """The statistics of `train` (head, relation, tail), whose ids are below num_entities and num_relations."""
        return cls.of_facts(KnownTriples.of(train, num_entities, num_relations), num_entities)

    @classmethod
    def of_facts(cls, known: KnownTriples, num_entities: int) -> "RelationStatistics":
        """The statistics of facts that are sorted already; they are on the CPU."""
        triples = _facts_of_relations(known.tails)
        domain_offset, range_offset = _offsets(known.tails), _offsets(known.heads)
        # A relation without triples has no pairs either; the clamp gives 0 instead of 0 / 0.
        tails_per_head = triples.double() / domain_offset.diff().clamp(min=1)
        heads_per_tail = triples.double() / range_offset.diff().clamp(min=1)
        bernoulli = tails_per_head / (tails_per_head + heads_per_tail)
        return cls(
            tails_per_head=tails_per_head,
            heads_per_tail=heads_per_tail,
            head_probability=torch.where(triples > 0, bernoulli, 0.5),
            cardinality=tuple(
                _cardinality(tails >= _MANY, heads >= _MANY)
                for tails, heads in zip(tails_per_head.tolist(), heads_per_tail.tolist(), strict=True)
            ),
            domain_offset=domain_offset,
            range_offset=range_offset,
            entity_degree=_facts_of_anchors(known.tails, num_entities) + _facts_of_anchors(known.heads, num_entities),
            relation_triples=triples,
            known=known,
        )


def _facts_of_anchors(index: AnswerIndex, num_entities: int) -> Int64[Tensor, " {num_entities}"]:
    """The number of facts of each anchor."""
    return _facts(index, num_entities, lambda query: query // index.num_relations)


def _facts_of_relations(index: AnswerIndex) -> Int64[Tensor, " R"]:
    return _facts(index, index.num_relations, lambda query: query % index.num_relations)


def _facts(index: AnswerIndex, size: int, group_of: Callable[[Tensor], Tensor]) -> Int64[Tensor, " {size}"]:
    """The number of facts in each group of queries."""
    total = torch.zeros(size, dtype=torch.int64)
    for start in range(0, len(index.query), _BLOCK):
        answers = index.offset[start : start + _BLOCK + 1].diff().long()
        total.index_add_(0, group_of(index.query[start : start + _BLOCK]), answers)
    return total


def _offsets(index: AnswerIndex) -> Int64[Tensor, " offsets"]:
    """Where the queries of each relation begin if they are sorted by relation, and the end."""
    offset = torch.zeros(index.num_relations + 1, dtype=torch.int64)
    for block in index.query.split(_BLOCK):
        offset[1:] += torch.bincount(block % index.num_relations, minlength=index.num_relations)
    return offset.cumsum(0)


def _by_relation(query: Int[Tensor, " Q"], num_entities: int, num_relations: int) -> Int32[Tensor, " Q"]:
    """The entities of the distinct queries entity * num_relations + relation, sorted by relation and entity."""
    anchor, relation = np.divmod(query.numpy(), num_relations)
    relation *= num_entities
    relation += anchor
    del anchor
    relation.sort()  # in place: torch's sort takes several times the memory
    relation %= num_entities
    return torch.from_numpy(relation.astype(np.int32))


def _cardinality(many_tails: bool, many_heads: bool) -> Cardinality:
    if many_heads:
        return Cardinality.MANY_TO_MANY if many_tails else Cardinality.MANY_TO_ONE
    return Cardinality.ONE_TO_MANY if many_tails else Cardinality.ONE_TO_ONE
