"""Counts of ranking on a GPU by plain torch, against counting one by one."""

import math

import pytest
import torch
from torch import Tensor

from kernels.filtered_counts import LeftOutRanges, count_filtered
from tests.kernels.arrays import both_types, integers, without_kernels

QUERIES, RANGES = 5, 2


def left_out_of(rows: int, seed: int) -> LeftOutRanges:
    """Known answers of two indexes, some in both, some of targets, and queries without any."""
    known = integers(3, RANGES, QUERIES, rows, seed=seed) == 0
    known[1, 0] |= known[0, 0]
    known[:, 3] = False
    count = known.sum(2).flatten()
    end = count.cumsum(0)
    answer = known.flatten(0, 1).nonzero()[:, 1].int()
    begin, end = (end - count).view(RANGES, -1), end.view(RANGES, -1)
    # Entities and rows are numbered differently.
    row_of_entity = torch.arange(rows).flip(0)
    return LeftOutRanges(integers(rows, QUERIES, seed=seed + 1), begin, end, rows - 1 - answer, row_of_entity)


def known_rows(left_out: LeftOutRanges, query: int) -> set[int]:
    found = {int(left_out.target[query])}
    for begin, end in zip(left_out.begin[:, query].tolist(), left_out.end[:, query].tolist(), strict=True):
        found |= set(left_out.row_of_entity[left_out.answer[begin:end]].tolist())
    return found


def one_by_one(scores: Tensor, truth: Tensor, left_out: LeftOutRanges) -> list[list[int]]:
    counts = [[0] * QUERIES for _ in range(3)]
    for q in range(QUERIES):
        skipped = known_rows(left_out, q)
        for row, score in enumerate(scores[q].tolist()):
            counts[0][q] += row not in skipped and score > float(truth[q])
            counts[1][q] += row not in skipped and score == float(truth[q])
            counts[2][q] |= not math.isfinite(score)
    return counts


def in_blocks(scores: Tensor, truth: Tensor, left_out: LeftOutRanges, block: int) -> tuple[list[list[int]], int]:
    """The counts, those of bad scores at most 1, and the number of blocks; blocks are padded with nan."""
    parts = []
    for first in range(0, scores.shape[1], block):
        part = scores[:, first : first + block]
        padded = torch.cat([part, part.new_full((QUERIES, 3), torch.nan)], dim=1)
        parts.append(without_kernels(count_filtered, padded, part.shape[1], truth, left_out, first))
    total = torch.stack(parts).sum(0)
    total[2].clamp_(max=1)
    return total.tolist(), len(parts)


@both_types
@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_counts_are_those_of_counting_one_by_one(dtype: torch.dtype, rows: int, bad: float | None):
    for seed in (1, 20):
        left_out = left_out_of(rows, seed)
        scores = integers(5, QUERIES, rows, seed=seed + 2).to(dtype)  # many ties
        truth = scores.gather(1, left_out.target[:, None])[:, 0]
        if bad is not None:
            scores[1, rows // 2] = bad
        expected = one_by_one(scores, truth, left_out)
        for block in (1, 3, rows):
            assert in_blocks(scores, truth, left_out, block)[0] == expected


def test_a_block_without_padding_or_of_other_queries_is_refused():
    left_out = left_out_of(4, 1)
    with pytest.raises(ValueError, match="4 rows need at least 5 columns of scores, got 4"):
        count_filtered(torch.zeros(QUERIES, 4), 4, torch.zeros(QUERIES), left_out, 0)
    with pytest.raises(ValueError, match=r"targets must have shape \[3\], got \[5\]"):
        count_filtered(torch.zeros(3, 5), 4, torch.zeros(3), left_out, 0)
