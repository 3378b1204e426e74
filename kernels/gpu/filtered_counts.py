"""Counts candidates that score above or equal to the true answer, one program for each query."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.filtered_counts import LeftOutRanges

_BLOCK = 1024


@triton.jit
@no_type_check
def _count(
    scores, truth, target, begin, end, answer, row_of_entity, out,
    queries, ranges, rows, stride, first, BLOCK: tl.constexpr,
):  # fmt: skip
    q = tl.program_id(0).to(tl.int64)
    own = scores + q * stride
    odd = tl.zeros((BLOCK,), dtype=tl.int64)
    for start in range(0, rows, BLOCK):
        n = start + tl.arange(0, BLOCK)
        score = tl.load(own + n, mask=n < rows, other=0.0)
        odd += (score - score != 0).to(tl.int64)
    tl.debug_barrier()  # before others write what is read here
    for p in range(ranges):
        last = tl.load(end + p * queries + q)
        for place in range(tl.load(begin + p * queries + q), last, BLOCK):
            k = place + tl.arange(0, BLOCK)
            entity = tl.load(answer + k, mask=k < last, other=0).to(tl.int64)
            column = tl.load(row_of_entity + entity, mask=k < last, other=-1) - first
            tl.store(own + column, -float("inf"), mask=(column >= 0) & (column < rows))
    column = tl.load(target + q) - first
    tl.store(own + column, -float("inf"), mask=(column >= 0) & (column < rows))
    tl.debug_barrier()  # what one thread has written here, another counts
    true_score = tl.load(truth + q)
    more, ties = tl.zeros_like(odd), tl.zeros_like(odd)
    for start in range(0, rows, BLOCK):
        n = start + tl.arange(0, BLOCK)
        score = tl.load(own + n, mask=n < rows, other=-float("inf"))
        more += (score > true_score).to(tl.int64)
        ties += ((score == true_score) & (n < rows)).to(tl.int64)
    tl.store(out + q, tl.sum(more, 0))
    tl.store(out + queries + q, tl.sum(ties, 0))
    tl.store(out + 2 * queries + q, tl.minimum(tl.sum(odd, 0), 1))


def count_filtered(
    scores: Float[Tensor, "Q n"], rows: int, truth: Float[Tensor, " Q"], left_out: LeftOutRanges, first: int
) -> Int64[Tensor, "3 Q"]:
    """As `kernels.filtered_counts.count_filtered`, which checks the shapes. The host does not wait."""
    out = torch.empty((3, len(scores)), dtype=torch.int64, device=scores.device)
    if len(scores):
        ranges = left_out.begin, left_out.end, left_out.answer, left_out.row_of_entity
        sizes = len(scores), len(left_out.begin), rows, scores.shape[1], first
        _count[(len(scores),)](scores, truth, left_out.target, *ranges, out, *sizes, BLOCK=_BLOCK)
    return out
