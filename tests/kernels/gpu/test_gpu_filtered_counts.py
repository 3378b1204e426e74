"""Counts of ranking by Triton's kernel, against plain torch, which is tested against counting one by one."""

import pytest
import torch

import kernels.filtered_counts
import kernels.gpu.filtered_counts
from kernels.filtered_counts import LeftOutRanges
from tests.kernels.arrays import both_types, integers, without_kernels
from tests.kernels.test_filtered_counts import QUERIES, left_out_of


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(kernels.gpu.filtered_counts, "_BLOCK", 8)


@both_types
@pytest.mark.parametrize("rows", [1, 7, 21])
def test_counts_are_the_plain_ones(dtype: torch.dtype, rows: int):
    left_out = left_out_of(rows, rows)
    scores = integers(5, QUERIES, rows + 2, seed=2).to(dtype)
    truth = scores.gather(1, left_out.target[:, None])[:, 0]
    if rows > 1:
        scores[0, rows - 1], scores[1, 0], scores[2, 1] = torch.nan, torch.inf, -torch.inf
    for first, size in ((0, rows), (rows // 2, rows - rows // 2)):
        given = scores[:, first : first + size + 1], size, truth, left_out, first
        mine = kernels.gpu.filtered_counts.count_filtered(given[0].contiguous(), *given[1:])
        plain = without_kernels(kernels.filtered_counts.count_filtered, given[0].clone(), *given[1:])
        assert mine.tolist() == plain.tolist()


def test_no_queries_and_no_rows():
    none, whole = torch.empty(0, dtype=torch.int64), torch.arange(3)
    nobody = LeftOutRanges(none, none[None], none[None], none.int(), whole)
    count = kernels.gpu.filtered_counts.count_filtered
    assert count(torch.zeros((0, 4)), 3, torch.zeros(0), nobody, 0).shape == (3, 0)
    assert not count(torch.ones((QUERIES, 1)), 0, torch.zeros(QUERIES), left_out_of(4, 1), 4).any()
