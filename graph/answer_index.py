"""An index of known answers: for each query (anchor, relation) of the facts, the entities that answer it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int, Int32, Int64, Shaped
from torch import Tensor

from graph.ranges import find_in_ranges
from kernels.gpu.available import is_on_gpu, usable_on_gpu
from kernels.known import all_answers, mask_known
from kernels.library import usable


class Answers(ABC):
    """What is asked of known facts in one direction; queries are (anchor, relation)."""

    @abstractmethod
    def answers(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """The known answers of all B queries: for each the position of its query, ascending, and the entity.

        The entities of a query ascend, each once.
        """

    @abstractmethod
    def contains(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], entity: Int64[Tensor, "C N"]
    ) -> Bool[Tensor, "B N"]:
        """Whether each entity is a known answer of the query.

        The B queries form C equal groups of consecutive queries; each group shares one row of `entity`.
        """

    @property
    @abstractmethod
    def indexes(self) -> "Sequence[AnswerIndex]":
        """The indexes that are searched, one after the other."""


@dataclass(frozen=True, eq=False)
class AnswerIndex(Answers):
    """Known answers in compressed sparse rows; see `graph.sorted_facts.sorted_answers`, which makes it.

    The query of row q is `query[q]` = anchor * num_relations + relation, and rows ascend by it. Its answers, ascending,
    are `answer[offset[q]:offset[q + 1]]`. A fact's place in `answer` is its number. Answers are int32, and so are
    queries and offsets if all are below 2^31: 8 bytes a query and 4 a fact.
    """

    query: Int[Tensor, " Q"]
    offset: Int[Tensor, " Q+1"]
    answer: Int32[Tensor, " T"]
    num_relations: int

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All numbers of the index."""
        return self.query, self.offset, self.answer

    @property
    def indexes(self) -> "Sequence[AnswerIndex]":
        """This one."""
        return (self,)

    def to(self, device: torch.device) -> "AnswerIndex":
        """The same index on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("query", "offset", "answer")}
        return replace(self, **moved)

    def rows(self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """The row of each query, or -1 if it has no known answer."""
        wanted = (anchor * self.num_relations + relation).to(self.query.dtype)
        if not len(self.query):
            return torch.full_like(anchor, -1)
        row = torch.searchsorted(self.query, wanted).clamp(max=len(self.query) - 1)
        return torch.where(self.query[row] == wanted, row, -1)

    def answers(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """See `Answers.answers`."""
        return all_answers(self.rows(anchor, relation), self.offset, self.answer)

    def count(self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """The number of known answers of queries that have some."""
        row = self.rows(anchor, relation)
        return (self.offset[row + 1] - self.offset[row]).long()

    def contains(
        self, anchor: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], entity: Int64[Tensor, "C N"]
    ) -> Bool[Tensor, "B N"]:
        """See `Answers.contains`."""
        row = self.rows(anchor, relation)
        if usable(entity) or usable_on_gpu(entity):
            return mask_known(row, self.offset, self.answer, entity.contiguous())
        return self.places(row[:, None], per_positive(entity, len(row))) >= 0

    def places(self, row: Int64[Tensor, "*s"], entity: Int64[Tensor, "*t"]) -> Int64[Tensor, "*t"]:
        """The number of each fact, by the row of its query (-1: no query) and its answer; -1 if it is unknown.

        `row` is broadcast to the shape of `entity`.
        """
        if not len(self.query):
            return torch.full_like(entity, -1)
        start, stop = self.offset[row.clamp(min=0)].long(), self.offset[row + 1].long()
        start, stop = torch.where(row < 0, 0, start), torch.where(row < 0, 0, stop)
        longest = self._most_answers if is_on_gpu(entity) else None
        return find_in_ranges(self.answer, start.expand_as(entity), stop.expand_as(entity), entity, longest=longest)

    @cached_property
    def _most_answers(self) -> int:
        """The answers of the query that has most. The host waits for a GPU the first time only."""
        return int(self.offset.diff().max())

    def facts(
        self, number: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, " B"]]:
        """The anchor, relation and answer of each fact, by its number."""
        row = torch.searchsorted(self.offset, number.to(self.offset.dtype), right=True) - 1
        query = self.query[row].long()
        return query // self.num_relations, query % self.num_relations, self.answer[number].long()


def per_positive(value: Shaped[Tensor, "C N"], positives: int) -> Shaped[Tensor, "B N"]:
    """Repeats row c, which a chunk's positives share, for each of these positives; C divides `positives`."""
    if len(value) == positives:
        return value
    return value.repeat_interleave(positives // max(len(value), 1), dim=0)
