"""Numbers from 0 on for the queries of train and for its (fact, corrupted side) pairs: the keys of samplers' caches."""

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.batch import Batch
from graph.known import AnswerIndex, KnownTriples


class QueryKeys:
    """A number for each query that train answers: first those for heads, (relation, tail), then (head, relation)."""

    def __init__(self, known: KnownTriples) -> None:
        self.known = known
        self.num_keys = len(known.heads.query) + len(known.tails.query)

    def of(self, batch: Batch) -> Int64[Tensor, " B"]:
        """The key of each positive's corrupted side; positives are train facts."""
        split = batch.head_rows
        heads = self.known.heads.rows(batch.tail[:split], batch.relation[:split])
        tails = self.known.tails.rows(batch.head[split:], batch.relation[split:])
        return torch.cat([heads, tails + len(self.known.heads.query)])


class FactKeys:
    """Two numbers for each distinct train fact: first all with the head corrupted, then all with the tail."""

    def __init__(self, known: KnownTriples) -> None:
        self.known = known
        self.num_facts = len(known.heads.pair)
        self.num_keys = 2 * self.num_facts

    def of(self, batch: Batch) -> Int64[Tensor, " B"]:
        """The key of each positive, by its corrupted side; positives are train facts."""
        split = batch.head_rows
        heads = _fact_number(self.known.heads, batch.anchor[:split], batch.relation[:split], batch.target[:split])
        tails = _fact_number(self.known.tails, batch.anchor[split:], batch.relation[split:], batch.target[split:])
        return torch.cat([heads, tails + self.num_facts])

    def batch(self, key: Int64[Tensor, " B"]) -> Batch:
        """The facts of these keys as positives, whose keys are `key` again; ascending keys."""
        heads = int((key < self.num_facts).sum())
        tail, of_tail, head = _fact(self.known.heads, key[:heads])
        other_head, of_head, other_tail = _fact(self.known.tails, key[heads:] - self.num_facts)
        head, relation, tail = (
            torch.cat([head, other_head]),
            torch.cat([of_tail, of_head]),
            torch.cat([tail, other_tail]),
        )
        return Batch.of_facts(head, relation, tail, heads=heads, chunk=key, seed=0, epoch=0)


def _fact_number(index: AnswerIndex, anchor: Tensor, relation: Tensor, answer: Tensor) -> Int64[Tensor, " B"]:
    return torch.searchsorted(index.pair, index.rows(anchor, relation) * index.num_entities + answer)


def _fact(
    index: AnswerIndex, number: Int64[Tensor, " B"]
) -> tuple[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, " B"]]:
    """Anchor, relation and answer of the facts of these numbers."""
    pair = index.pair[number]
    query = index.query[pair // index.num_entities]
    return query // index.num_relations, query % index.num_relations, pair % index.num_entities
