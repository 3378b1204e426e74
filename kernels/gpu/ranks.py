"""Counts candidates that score above or equal to the true answer, without known answers."""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from kernels.ranks import LeftOut, RankCounts

_BLOCK = 1024


@triton.jit
@no_type_check
def _count(
    scores, truth, target, known_query, offset, answer, greater, equal, bad,
    rows, stride, first, BLOCK: tl.constexpr,
):  # fmt: skip
    q = tl.program_id(0).to(tl.int64)
    true_score = tl.load(truth + q)
    more = tl.zeros((BLOCK,), dtype=tl.int64)
    ties, odd = tl.zeros_like(more), tl.zeros_like(more)
    for start in range(0, rows, BLOCK):
        n = start + tl.arange(0, BLOCK)
        inside = n < rows
        score = tl.load(scores + q * stride + n, mask=inside, other=0.0)
        more += ((score > true_score) & inside).to(tl.int64)
        ties += ((score == true_score) & inside).to(tl.int64)
        odd += ((score - score != 0) & inside).to(tl.int64)
    # The target does not count, whether it is among the known answers or not.
    own = tl.load(target + q)
    own_score = tl.load(scores + q * stride + own - first, mask=(own >= first) & (own < first + rows), other=0.0)
    own_counts = (own >= first) & (own < first + rows)
    less = ((own_score > true_score) & own_counts).to(tl.int64)
    less_ties = ((own_score == true_score) & own_counts).to(tl.int64)
    known = tl.load(known_query + q)
    begin = tl.load(offset + known, mask=known >= 0, other=0)
    end = tl.load(offset + known + 1, mask=known >= 0, other=0)
    for start in range(begin, end, BLOCK):
        k = start + tl.arange(0, BLOCK)
        row = tl.load(answer + k, mask=k < end, other=-1)
        here = (row >= first) & (row < first + rows) & (row != own)
        score = tl.load(scores + q * stride + row - first, mask=here, other=0.0)
        more -= ((score > true_score) & here).to(tl.int64)
        ties -= ((score == true_score) & here).to(tl.int64)
    tl.store(greater + q, tl.load(greater + q) + tl.sum(more, 0) - less)
    tl.store(equal + q, tl.load(equal + q) + tl.sum(ties, 0) - less_ties)
    tl.store(bad + q, tl.load(bad + q) + tl.sum(odd, 0))


def count_ranks(
    counts: RankCounts,
    scores: Float[Tensor, "Q n"],
    rows: int,
    truth: Float[Tensor, " Q"],
    left_out: LeftOut,
    first: int,
) -> None:
    """Adds a block of candidates to the counts: as `kernels.ranks.count_ranks`."""
    scores = scores.contiguous()
    given = scores, truth, left_out.target, left_out.query, left_out.offset, left_out.answer
    sizes = rows, scores.shape[1], first
    if len(scores):
        _count[(len(scores),)](*given, counts.greater, counts.equal, counts.bad, *sizes, BLOCK=_BLOCK)
