"""What a model answers to triples whose answer is known: its best answers, and the rank of the true one."""

from dataclasses import dataclass

from jaxtyping import Float64, Int64
from torch import Tensor

from answers.best import Allowed, Best
from answers.completions import Completions

_ALL = Allowed(known=True, loops=True)
"""Ranking leaves out neither; so the true answer, if it is first among those shown, has no better answer."""


@dataclass(frozen=True)
class Answered:
    """T triples of which one side was asked for."""

    side: str
    """What was asked for, "head" or "tail"."""
    triples: Int64[Tensor, "T 3"]
    rank: Float64[Tensor, " T"]
    """Of the true answer, from 1; filtered and realistic, as in tables of results."""
    best: Best
    """The best answers, known facts and loops among them."""


def ask_again(completions: Completions, triples: Int64[Tensor, "T 3"], count: int) -> list[Answered]:
    """Asks for the tails and for the heads of triples. Collective: every rank gives the same, and gets the same.

    Args:
        count: the number of answers to each question.
    Raises:
        InputError: the model gives scores that are nan or infinite.
    """
    head, relation, tail = triples.unbind(1)
    ranks = completions.scores(triples)
    return [
        Answered("tail", triples, ranks.tail_rank, completions.tails(head, relation, count=count, allowed=_ALL)),
        Answered("head", triples, ranks.head_rank, completions.heads(relation, tail, count=count, allowed=_ALL)),
    ]
