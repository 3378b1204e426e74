"""Answers of queries, and the rules for which answers are allowed."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Allowed:
    """Which answers a query may get."""

    known: bool = False
    """False: facts of train, valid and test are left out."""
    loops: bool = False
    """False: in queries for heads or tails, triples whose head is their tail are left out. Some models, TransE for one,
    score them highest."""
    unseen: bool = True
    """False: only entities that train has in the asked slot of the relation; and of relations, only those that train
    has with this head and with this tail."""


PLAIN = Allowed()


@dataclass(frozen=True)
class Best:
    """The best answers of Q queries, best first. Of equal scores, the answer with the lower id comes first."""

    answer: Int64[Tensor, "Q k"]
    """Ids of entities or relations; 0 where a query has fewer than k answers."""
    score: Float64[Tensor, "Q k"]
    """Higher is more plausible; minus infinity where a query has fewer than k answers."""
    known: Bool[Tensor, "Q k"]
    """Whether the answer makes a fact of train, valid or test."""

    @classmethod
    def none(cls, queries: int, count: int) -> "Best":
        """No answers yet, in `count` columns."""
        shape = (queries, count)
        score = torch.full(shape, -torch.inf, dtype=torch.float64)
        return cls(torch.zeros(shape, dtype=torch.int64), score, torch.zeros(shape, dtype=torch.bool))

    def put(self, query: Int64[Tensor, " q"], best: "Best") -> None:
        """Sets the answers of some of the queries, which may have fewer columns."""
        columns = slice(best.answer.shape[1])
        self.answer[query, columns] = best.answer
        self.score[query, columns] = best.score
        self.known[query, columns] = best.known


@dataclass(frozen=True)
class TripleScores:
    """What the model says of T triples."""

    score: Float64[Tensor, " T"]
    """As tails of (head, relation); higher is more plausible."""
    head_rank: Float64[Tensor, " T"]
    """The rank of the head among all entities, from 1; filtered and realistic, as in the tables of results."""
    tail_rank: Float64[Tensor, " T"]
    known: Bool[Tensor, " T"]
    """Whether it is a fact of train, valid or test."""
