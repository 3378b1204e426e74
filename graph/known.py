"""An index of known answers, to mask negatives in training and to filter ranks."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from graph.batch import Batch
from kernels.known import all_answers, mask_known
from kernels.library import usable


@dataclass(frozen=True)
class AnswerIndex:
    """Known answers of queries (anchor, relation), in compressed sparse rows.

    The query of row q is `query[q]` = anchor * num_relations + relation, and rows ascend by it. Its answers, ascending,
    are `answer[offset[q]:offset[q + 1]]`. `pair` = q * num_entities + answer ascends too, so one binary search finds
    whether an answer is known. Entities x relations and triples x entities must be below 2^63.
    """

    query: Int64[Tensor, " Q"]
    offset: Int64[Tensor, " Q+1"]
    answer: Int64[Tensor, " T"]
    pair: Int64[Tensor, " T"]
    num_entities: int
    num_relations: int

    @classmethod
    def of(
        cls,
        anchor: Int64[Tensor, " T"],
        relation: Int64[Tensor, " T"],
        answer: Int64[Tensor, " T"],
        num_entities: int,
        num_relations: int,
    ) -> "AnswerIndex":
        """Builds the index; repeated triples count once."""
        query, row = torch.unique(anchor * num_relations + relation, return_inverse=True)
        pair = torch.unique(row * num_entities + answer)
        count = torch.bincount(pair // max(num_entities, 1), minlength=len(query))
        offset = torch.cat([count.new_zeros(1), count.cumsum(0)])
        return cls(query, offset, pair % max(num_entities, 1), pair, num_entities, num_relations)

    def rows(self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """The row of each query, or -1 if it has no known answer."""
        return _find(self.query, anchor * self.num_relations + relation)

    def answers(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """The known answers of all B queries: for each the position of its query, ascending, and the entity."""
        return all_answers(self.rows(anchor, relation), self.offset, self.answer)

    def relabelled(self, name: Int64[Tensor, " E"]) -> "AnswerIndex":
        """The index with each answer e replaced by `name[e]`; queries stay as they are."""
        row = self.pair // max(self.num_entities, 1)
        pair = (row * self.num_entities + name[self.answer]).sort().values
        return replace(self, answer=pair % max(self.num_entities, 1), pair=pair)

    def contains(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], entity: Int64[Tensor, "C N"]
    ) -> Bool[Tensor, "B N"]:
        """Whether each entity is a known answer of the query.

        The B queries form C equal groups of consecutive queries; each group shares one row of `entity`.
        """
        row = self.rows(anchor, relation)
        if usable(entity):
            return mask_known(row, self.offset, self.answer, entity.contiguous())
        # An unknown query has row -1, so its pairs are negative and are never found.
        return _find(self.pair, row[:, None] * self.num_entities + per_positive(entity, len(row))) >= 0


class KnownTriples:
    """An index of known triples in both directions: the tails of (head, relation) and the heads of (tail, relation).

    Example: `KnownTriples(graph.train, graph.num_entities, graph.num_relations).contains(batch, negatives.entity)` is
    True at [b, n] where negative n of positive b makes a train fact.
    """

    def __init__(self, triples: Int64[Tensor, "T 3"], num_entities: int, num_relations: int) -> None:
        head, relation, tail = triples.unbind(1)
        self.tails = AnswerIndex.of(head, relation, tail, num_entities, num_relations)
        self.heads = AnswerIndex.of(tail, relation, head, num_entities, num_relations)

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


def per_positive(value: Shaped[Tensor, "C N"], positives: int) -> Shaped[Tensor, "B N"]:
    """Repeats row c, which a chunk's positives share, for each of these positives; C divides `positives`."""
    if len(value) == positives:
        return value
    return value.repeat_interleave(positives // max(len(value), 1), dim=0)


def _find(ascending: Int64[Tensor, " K"], value: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
    """The position of each value in an ascending tensor of distinct numbers, or -1."""
    if not len(ascending):
        return torch.full_like(value, -1)
    position = torch.searchsorted(ascending, value).clamp(max=len(ascending) - 1)
    return torch.where(ascending[position] == value, position, -1)
