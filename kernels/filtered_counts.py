"""Counts candidates that score above or equal to the true answer, without known answers, on a GPU.

`kernels.ranks` does the same on a CPU, block by block in its cache. Here scores are overwritten, so that an answer may
be known twice, nothing has to be sorted, and what is known takes a few operations however many queries there are.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.shapes import expect_shape


@dataclass(frozen=True, eq=False)
class LeftOutRanges:
    """Candidates that are not counted: the target of each query and its known answers, in P ranges of `answer`."""

    target: Int64[Tensor, " Q"]
    """Rows of the table."""
    begin: Int64[Tensor, "P Q"]
    end: Int64[Tensor, "P Q"]
    answer: Int32[Tensor, " T"]
    """Entities; range p of query q is answer[begin[p, q]:end[p, q]]. Repeats are allowed."""
    row_of_entity: Int64[Tensor, " E"]

    @cached_property
    def pairs(self) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
        """The query and the row of each known answer. The host waits for their number, once."""
        begin, end = self.begin.flatten(), self.end.flatten()
        total = (end - begin).cumsum(0)
        place = torch.arange(int(total[-1]) if len(total) else 0, device=begin.device)
        of_range = torch.searchsorted(total, place, right=True)
        answer = self.answer[place + (end - total)[of_range]]
        return of_range.remainder_(self.begin.shape[1]), self.row_of_entity[answer]


def count_filtered(
    scores: Float[Tensor, "Q n"], rows: int, truth: Float[Tensor, " Q"], left_out: LeftOutRanges, first: int
) -> Int64[Tensor, "3 Q"]:
    """Counts a block of candidates: those above the true answer, those equal to it, and 1 where a score is not finite.

    Args:
        scores: the scores of table rows first, ..., first + rows - 1; at least one further column is padding. Those of
            candidates that are left out are overwritten, and padding too.
        truth: the score of each query's true answer.
    """
    expect_shape("truth", truth, len(scores))
    expect_shape("targets", left_out.target, len(scores))
    if rows >= scores.shape[1]:
        raise ValueError(f"{rows} rows need at least {rows + 1} columns of scores, got {scores.shape[1]}")
    if usable_on_gpu(scores):
        import kernels.gpu.filtered_counts as gpu

        return gpu.count_filtered(scores, rows, truth, left_out, first)
    largest = torch.linalg.vector_norm(scores[:, :rows], torch.inf, dim=1) if rows else torch.zeros_like(truth)
    (query, row), target = left_out.pairs, left_out.target
    if rows < len(left_out.row_of_entity):
        # A row outside of the block has a column of padding: the last one, or the one after the block.
        row, target = ((each - first).clamp(-1, rows).remainder(scores.shape[1]) for each in (row, target))
    scores.index_put_((query, row), scores.new_full((), -torch.inf))
    scores.scatter_(1, target[:, None], -torch.inf)
    block, truth = scores[:, :rows], truth[:, None]
    return torch.stack([(block > truth).sum(1), (block == truth).sum(1), (largest < torch.inf).logical_not().long()])
