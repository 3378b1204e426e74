"""Sums over the scores of a row and their slopes, against torch in float64, with kernels and without."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from kernels.score_sums import log_sum_exp, log_sum_exp_slope, sum_softplus, sum_softplus_slope
from tests.kernels.arrays import Way, assert_close, both_types, every_way, on_threads, randn, with_kernels

COUNTS = [1, 2, 7, 16, 255, 256, 257, 1000]
MARGIN = 1.5
every_count = pytest.mark.parametrize("count", COUNTS)


def both_sums(score: Tensor) -> tuple[Tensor, Tensor]:
    return log_sum_exp(score), sum_softplus(score, MARGIN)


def both_slopes(score: Tensor, log_sum: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return log_sum_exp_slope(score, log_sum, weight), sum_softplus_slope(score, weight, MARGIN)


@every_way
@both_types
@every_count
def test_sums_and_slopes_are_those_of_the_formulas(way: Way, dtype: torch.dtype, count: int):
    for rows in (0, 1, 9):
        score, weight = (3 * randn(rows, count)).to(dtype), randn(rows, seed=1)
        exact = score.double().requires_grad_()
        expected = exact.logsumexp(1), softplus(MARGIN + exact).sum(1)
        found = way(both_sums, score)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == torch.float64
            assert_close(mine, theirs.detach(), 1e-6 if dtype == torch.float32 else None)
        slopes = way(both_slopes, score, expected[0].detach(), weight)
        for mine, of in zip(slopes, expected, strict=True):
            (theirs,) = torch.autograd.grad((weight * of).sum(), exact, retain_graph=True)
            assert mine.dtype == dtype
            assert_close(mine, theirs)


@every_way
@both_types
def test_a_score_of_minus_infinity_counts_for_nothing(way: Way, dtype: torch.dtype):
    score, weight = randn(4, 21, dtype=dtype), randn(4, seed=1)
    whole = way(log_sum_exp, score[:, 1:].contiguous())
    score[:, 0] = -torch.inf
    found = way(log_sum_exp, score)
    assert_close(found, whole, 1e-6)
    slope = way(log_sum_exp_slope, score, found, weight)
    assert (slope[:, 0] == 0).all()
    assert_close(slope[:, 1:], (score.double().softmax(1) * weight[:, None])[:, 1:])


@every_way
@both_types
def test_nothing_to_sum_is_minus_infinity(way: Way, dtype: torch.dtype):
    for count in (0, 1, 21):
        score = torch.full((3, count), -torch.inf, dtype=dtype)
        assert way(log_sum_exp, score).tolist() == [-torch.inf] * 3


@every_way
@both_types
@pytest.mark.parametrize("count", [1, 8, 21])
def test_nan_is_not_lost(way: Way, dtype: torch.dtype, count: int):
    for rest in (0.0, -torch.inf):
        score = torch.full((1, count), rest, dtype=dtype)
        score[0, count // 2] = torch.nan
        assert way(log_sum_exp, score).isnan().all()
        assert way(sum_softplus, score, MARGIN).isnan().all()


@every_way
@both_types
def test_large_scores_do_not_overflow(way: Way, dtype: torch.dtype):
    for size in (300.0, -300.0, 30_000.0, -30_000.0):
        score = (size + randn(3, 21)).to(dtype)
        expected = score.double().logsumexp(1), softplus(MARGIN + score.double()).sum(1)
        for mine, theirs in zip(way(both_sums, score), expected, strict=True):
            assert_close(mine, theirs, 1e-6)


@both_types
def test_every_number_of_threads_gives_the_same(dtype: torch.dtype):
    score, weight = randn(9, 300, dtype=dtype), randn(9, seed=1)
    log_sum = log_sum_exp(score)
    for run, given in ((both_sums, (score,)), (both_slopes, (score, log_sum, weight))):
        for mine, theirs in zip(with_kernels(run, *given), on_threads(3, run, *given), strict=True):
            assert mine.equal(theirs)


@both_types
def test_scores_in_another_layout_are_read_right(dtype: torch.dtype):
    score, weight = randn(30, 9, dtype=dtype).T, randn(9, seed=1)
    log_sum = log_sum_exp(score)
    assert log_sum.equal(log_sum_exp(score.contiguous()))
    for mine, theirs in zip(
        both_slopes(score, log_sum, weight), both_slopes(score.contiguous(), log_sum, weight), strict=True
    ):
        assert mine.equal(theirs)
