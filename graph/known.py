"""Known facts in both directions, to mask negatives in training and to filter ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from graph.answer_index import AnswerIndex, Answers, per_positive
from graph.batch import Batch
from graph.sorted_facts import sorted_answers


@dataclass(frozen=True, eq=False)
class KnownFacts:
    """Known facts in both directions: the tails of (head, relation) and the heads of (tail, relation)."""

    tails: Answers
    heads: Answers

    def answers(self, batch: Batch) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """The known answers of each positive's query: for each the row in the batch, ascending, and the entity."""
        split = batch.head_rows
        head_row, head = self.heads.answers(batch.tail[:split], batch.relation[:split])
        tail_row, tail = self.tails.answers(batch.head[split:], batch.relation[split:])
        return torch.cat([head_row, tail_row + split]), torch.cat([head, tail])

    def contains(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Bool[Tensor, "B N"]:
        """Whether replacing each positive's target by each entity gives a known triple.

        `entity` has one row for each of C equal groups of consecutive positives.
        """
        split = batch.head_rows
        if split * len(entity) % max(len(batch.head), 1):  # one group has positives of both sides
            entity = per_positive(entity, len(batch.head))
        chunks = split * len(entity) // max(len(batch.head), 1)
        head = self.heads.contains(batch.tail[:split], batch.relation[:split], entity[:chunks])
        tail = self.tails.contains(batch.head[split:], batch.relation[split:], entity[chunks:])
        return torch.cat([head, tail])


@dataclass(frozen=True, eq=False)
class KnownTriples(KnownFacts):
    """The known facts of some triples, sorted in both directions.

    Example: `KnownTriples.of(graph.valid, graph.num_entities, graph.num_relations).contains(batch, negatives.entity)`
    is True at [b, n] where negative n of positive b makes a valid fact.
    """

    tails: AnswerIndex
    heads: AnswerIndex

    @classmethod
    def of(
        cls, triples: Int[Tensor, "T 3"], num_entities: int, num_relations: int, folder: Path | None = None
    ) -> "KnownTriples":
        """Sorts the triples on the CPU; the index is on their device. Ids must be below 2^31.

        Args:
            folder: for temporary files, if the triples are many; None: where the system has such files.
        """
        head, relation, tail = triples.cpu().unbind(1)
        tails = sorted_answers(head, relation, tail, num_entities, num_relations, folder)
        heads = sorted_answers(tail, relation, head, num_entities, num_relations, folder)
        return cls(tails, heads).to(triples.device)

    @property
    def num_facts(self) -> int:
        """The number of distinct facts."""
        return len(self.tails.answer)

    def to(self, device: torch.device) -> "KnownTriples":
        """The same facts on another device."""
        return KnownTriples(self.tails.to(device), self.heads.to(device))


@dataclass(frozen=True, eq=False)
class _Together(Answers):
    """Answers that any of several indexes knows."""

    parts: Sequence[AnswerIndex]

    @property
    def indexes(self) -> Sequence[AnswerIndex]:
        """All of them."""
        return self.parts

    def answers(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """See `Answers.answers`."""
        found = [part.answers(anchor, relation) for part in self.parts]
        query, entity = (torch.cat(column) for column in zip(*found, strict=True))
        if not len(query):
            return query, entity
        entities = int(entity.max()) + 1
        key = torch.unique(query * entities + entity)
        return key // entities, key % entities

    def contains(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], entity: Int64[Tensor, "C N"]
    ) -> Bool[Tensor, "B N"]:
        """See `Answers.contains`."""
        first, *others = (part.contains(anchor, relation, entity) for part in self.parts)
        for other in others:
            first |= other
        return first


def together(*known: KnownTriples) -> KnownFacts:
    """The facts that any of these knows. They are looked up one after the other, so no fact is stored anew."""
    return KnownFacts(_Together([each.tails for each in known]), _Together([each.heads for each in known]))
