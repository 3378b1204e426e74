"""Dense ids of train queries and of (fact, corrupted side) pairs, used as keys of caches."""

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.answer_index import AnswerIndex
from graph.batch import Batch
from graph.known import KnownTriples


class QueryKeys:
    """Numbers the queries of train from 0: first the head queries (relation, tail), then the tail queries."""

    def __init__(self, known: KnownTriples) -> None:
        self.known = known
        self.num_keys = len(known.heads.query) + len(known.tails.query)

    def of(self, batch: Batch) -> Int64[Tensor, " B"]:
        """The key of each positive's query: (relation, tail) if its head is corrupted, else (head, relation).

        Every positive must be a train fact.
        """
        split = batch.head_rows
        heads = self.known.heads.rows(batch.tail[:split], batch.relation[:split])
        tails = self.known.tails.rows(batch.head[split:], batch.relation[split:])
        return torch.cat([heads, tails + len(self.known.heads.query)])


class FactKeys:
    """Numbers each distinct train fact twice, from 0: first all with the head corrupted, then all with the tail."""

    def __init__(self, known: KnownTriples) -> None:
        self.known = known
        self.num_facts = known.num_facts
        self.num_keys = 2 * self.num_facts

    def of(self, batch: Batch) -> Int64[Tensor, " B"]:
        """The key of each positive and its corrupted side. Every positive must be a train fact."""
        split = batch.head_rows
        heads = _fact_number(self.known.heads, batch.anchor[:split], batch.relation[:split], batch.target[:split])
        tails = _fact_number(self.known.tails, batch.anchor[split:], batch.relation[split:], batch.target[split:])
        return torch.cat([heads, tails + self.num_facts])

    def batch(self, key: Int64[Tensor, " B"]) -> Batch:
        """The facts with these keys as a batch with one positive a chunk. Keys must ascend.

        `of` gives the same keys for this batch. The key is the chunk number; seed and epoch are 0.
        """
        heads = int((key < self.num_facts).sum())
        tail, of_tail, head = self.known.heads.facts(key[:heads])
        other_head, of_head, other_tail = self.known.tails.facts(key[heads:] - self.num_facts)
        head, relation, tail = (
            torch.cat([head, other_head]),
            torch.cat([of_tail, of_head]),
            torch.cat([tail, other_tail]),
        )
        return Batch.of_facts(head, relation, tail, heads=heads, chunk=key, seed=0, epoch=0)


def _fact_number(
    index: AnswerIndex, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], answer: Int64[Tensor, " B"]
) -> Int64[Tensor, " B"]:
    return index.places(index.rows(anchor, relation), answer)
