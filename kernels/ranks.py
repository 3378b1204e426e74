"""Counts candidates that score above or equal to the true answer, without known answers, on a CPU (ranks.cpp).

`kernels.filtered_counts` does the same on a GPU.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.known import all_answers
from kernels.library import call, type_name, usable
from kernels.shapes import expect_shape


@dataclass(frozen=True)
class RankCounts:
    """Counts for each query over the candidates so far."""

    greater: Int64[Tensor, " Q"]
    """Candidates that score above the true answer."""
    equal: Int64[Tensor, " Q"]
    """Candidates that score the same."""
    bad: Int64[Tensor, " Q"]
    """Candidates whose score is nan or infinite."""


@dataclass(frozen=True)
class LeftOut:
    """Candidates that are not counted: the target of each query and its known answers, as rows of the table."""

    target: Int64[Tensor, " Q"]
    query: Int64[Tensor, " Q"]
    """Query numbers: the known answers are answer[offset[query]:offset[query + 1]], ascending; -1: none."""
    offset: Int64[Tensor, " X_plus_1"]
    answer: Int64[Tensor, " T"]


def count_ranks(
    counts: RankCounts,
    scores: Float[Tensor, "Q n"],
    rows: int,
    truth: Float[Tensor, " Q"],
    left_out: LeftOut,
    first: int,
) -> None:
    """Adds a block of candidates to the counts.

    Args:
        scores: the scores of table rows first, ..., first + rows - 1; further columns are padding.
        truth: the score of each query's true answer.
    """
    if usable(scores):
        for each in (truth, left_out.target, left_out.query, counts.greater, counts.equal, counts.bad):
            expect_shape("what there is of each query", each, len(scores))
        if rows > scores.shape[1]:
            raise ValueError(f"{rows} rows have no scores in {scores.shape[1]} columns")
        given = scores.contiguous(), truth, left_out.target, left_out.query, left_out.offset, left_out.answer
        sizes = len(scores), rows, scores.shape[1], first, torch.get_num_threads()
        call(f"count_ranks_{type_name(scores)}", *given, counts.greater, counts.equal, counts.bad, *sizes)
        return
    scores = scores[:, :rows]
    counts.greater.add_((scores > truth[:, None]).sum(1))
    counts.equal.add_((scores == truth[:, None]).sum(1))
    counts.bad.add_((~scores.isfinite()).sum(1))
    query, row = all_answers(left_out.query, left_out.offset, left_out.answer)
    known = row != left_out.target[query]
    own = torch.arange(len(scores), device=scores.device)
    query, row = torch.cat([own, query[known]]), torch.cat([left_out.target, row[known]])
    here = (row >= first) & (row < first + rows)
    query, value = query[here], scores[query[here], row[here] - first]
    counts.greater.index_add_(0, query, -(value > truth[query]).long())
    counts.equal.index_add_(0, query, -(value == truth[query]).long())
