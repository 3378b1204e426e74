"""Counts of ranking, compiled and plain, against counting one by one."""

import math

import pytest
import torch
from torch import Tensor

from kernels.ranks import LeftOut, RankCounts, count_ranks
from tests.kernels.arrays import Way, both_types, every_way, integers, on_threads

QUERIES = 6
BAD = (math.nan, math.inf, -math.inf)


def new_counts() -> RankCounts:
    return RankCounts(*(torch.zeros(QUERIES, dtype=torch.int64) for _ in range(3)))


def as_lists(counts: RankCounts) -> list[list[int]]:
    return [counts.greater.tolist(), counts.equal.tolist(), counts.bad.tolist()]


def left_out_of(rows: int, seed: int) -> LeftOut:
    """Targets that are known and ones that are not; a query without an index row, and one without answers."""
    known = integers(3, 4, rows, seed=seed) == 0
    known[3] = False
    query = torch.tensor([0, 1, 2, 3, -1, 0])
    target = integers(rows, QUERIES, seed=seed + 1)
    for number in (0, 1):
        known[query[number], target[number]] = True
    known[query[2], target[2]] = False
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), known.sum(1).cumsum(0)])
    return LeftOut(target, query, offset, known.nonzero()[:, 1].contiguous())


def one_by_one(scores: Tensor, truth: Tensor, left_out: LeftOut) -> list[list[int]]:
    greater, equal, bad = [0] * QUERIES, [0] * QUERIES, [0] * QUERIES
    for q in range(QUERIES):
        row = int(left_out.query[q])
        begin, end = (int(left_out.offset[row]), int(left_out.offset[row + 1])) if row >= 0 else (0, 0)
        skipped = {int(left_out.target[q]), *left_out.answer[begin:end].tolist()}
        for entity, score in enumerate(scores[q].tolist()):
            bad[q] += not math.isfinite(score)
            if entity not in skipped:
                greater[q] += score > float(truth[q])
                equal[q] += score == float(truth[q])
    return [greater, equal, bad]


def count(scores: Tensor, truth: Tensor, left_out: LeftOut, block: int, fill: float) -> list[list[int]]:
    """Block by block, each filled up with columns that are no rows of the table."""
    counts, rows = new_counts(), scores.shape[1]
    for first in range(0, rows, block):
        part = scores[:, first : first + block]
        filling = part.new_full((QUERIES, block + 3 - part.shape[1]), fill)
        count_ranks(counts, torch.cat([part, filling], dim=1), part.shape[1], truth, left_out, first)
    return as_lists(counts)


@every_way
@both_types
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 50, 200])
@pytest.mark.parametrize("bad", [False, True])
def test_counts_are_those_of_counting_one_by_one(way: Way, dtype: torch.dtype, rows: int, bad: bool):
    for seed in (1, 20):
        left_out = left_out_of(rows, seed)
        scores = integers(5, QUERIES, rows, seed=seed + 2).to(dtype)  # many ties
        truth = scores.gather(1, left_out.target[:, None])[:, 0].contiguous()
        if bad:
            for number, each in enumerate(BAD):
                scores[number, integers(rows, 2, seed=seed + 3 + number)] = each
        expected = one_by_one(scores, truth, left_out)
        for block in (1, 3, 16, rows):
            for fill in (9.0, math.nan):
                assert way(count, scores, truth, left_out, block, fill) == expected


@every_way
def test_a_block_may_have_no_queries_or_no_rows(way: Way):
    left_out = left_out_of(5, 1)
    counts = new_counts()
    way(count_ranks, counts, torch.zeros(QUERIES, 4), 0, torch.zeros(QUERIES), left_out, 5)
    assert not any(map(any, as_lists(counts)))
    none = torch.empty(0, dtype=torch.int64)
    nobody = RankCounts(none.clone(), none.clone(), none.clone())
    nothing = LeftOut(none, none, torch.zeros(1, dtype=torch.int64), none)
    way(count_ranks, nobody, torch.zeros(0, 4), 4, torch.zeros(0), nothing, 0)
    assert as_lists(nobody) == [[], [], []]


@both_types
def test_counts_do_not_depend_on_the_number_of_threads(dtype: torch.dtype):
    left_out = left_out_of(200, 1)
    scores = integers(5, QUERIES, 200, seed=2).to(dtype)
    one, two = (on_threads(n, count, scores, scores[:, 0].contiguous(), left_out, 64, 9.0) for n in (1, 2))
    assert one == two
