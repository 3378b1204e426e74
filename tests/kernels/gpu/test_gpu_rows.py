"""Sums, updates, draws, counts and random numbers by Triton's kernels, against the CPU's."""

import pytest
import torch

import kernels.counter_random
import kernels.draws
import kernels.gpu.counter_random
import kernels.gpu.draws
import kernels.gpu.updates
import kernels.ranks
import kernels.updates
from kernels.gpu.ranks import count_ranks
from kernels.gpu.rows import sum_occurrences, whole_sum
from kernels.library import usable
from kernels.ranks import LeftOut, RankCounts
from kernels.rows import RowGradient
from kernels.updates import Ball
from tests.kernels.arrays import assert_close, both_types, integers, randn, without_kernels

WIDTH = 6


@pytest.mark.skipif(not usable(), reason="the CPU's kernels could not be built")
@pytest.mark.parametrize("stream", [0, 1, -5, 2**62 + 3, -(2**63)])
def test_random_numbers_are_the_cpus_bit_for_bit(stream: int):
    outer = integers(2**62, 5) - 2**61
    for high in (1, 7, 1_000_003, 2**40 + 1):
        mine = kernels.gpu.counter_random.random_integers(stream, outer, 300, high)
        assert mine.equal(kernels.counter_random.random_integers(stream, outer, 300, high))
    mine = kernels.gpu.counter_random.random_uniform(stream, outer, 300)
    assert mine.equal(kernels.counter_random.random_uniform(stream, outer, 300))


@both_types
def test_sums_are_those_in_float64(dtype: torch.dtype):
    place, value = integers(7, 40), randn(40, WIDTH, dtype=dtype)
    row, found = sum_occurrences(place, value, dtype)
    total = torch.zeros((7, WIDTH), dtype=torch.float64).index_add_(0, place, value.double())
    assert row.tolist() == sorted(set(place.tolist()))
    assert_close(found, total[row])
    row, found = sum_occurrences(place[:0], value[:0], dtype)
    assert (len(row), len(found)) == (0, 0)


@both_types
def test_sums_of_all_rows_are_zeros_where_nothing_occurs(dtype: torch.dtype):
    place, value = integers(7, 20) + 1, randn(20, WIDTH, dtype=dtype)
    total = torch.zeros((9, WIDTH), dtype=torch.float64).index_add_(0, place, value.double())
    found = whole_sum(place, value, 9, dtype)
    assert_close(found, total)
    assert not found[[0, 8]].any()
    assert whole_sum(place[:0], value[:0], 2, dtype).equal(torch.zeros((2, WIDTH), dtype=dtype))


@both_types
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("everywhere", [False, True])
def test_updates_are_the_plain_ones(dtype: torch.dtype, max_norm: float | None, everywhere: bool):
    widths, row, value = (2, 4), torch.tensor([1, 3, 8]), randn(3, WIDTH, dtype=dtype, seed=1)
    limit = {"widths": widths, "max_norm": max_norm}
    mine, theirs = ([randn(9, WIDTH, dtype=dtype), *torch.zeros((2, 9, WIDTH), dtype=dtype)] for _ in range(2))
    for step in (1, 2):
        common = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "everywhere": everywhere}
        factors = {"rate": 0.1 / (1 - 0.9**step), "root": (1 - 0.999**step) ** 0.5}
        kernels.gpu.updates.adam(*mine, row, value, **common, **factors, **limit)
        gradient = RowGradient(row, value)
        without_kernels(kernels.updates.adam, *theirs, gradient, **common, step=step, lr=0.1, ball=Ball(**limit))
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other)


@both_types
@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_adagrad_is_the_plain_one(dtype: torch.dtype, max_norm: float | None):
    row, value = torch.tensor([1, 3, 8]), randn(3, WIDTH, dtype=dtype, seed=1)
    limit = {"widths": (2, 4), "max_norm": max_norm}
    mine, theirs = ([randn(9, WIDTH, dtype=dtype), torch.full((9, 1), 0.1, dtype=dtype)] for _ in range(2))
    for _ in range(2):
        kernels.gpu.updates.rowwise_adagrad(*mine, row, value, lr=0.1, eps=1e-10, **limit)
        gradient = RowGradient(row, value)
        without_kernels(kernels.updates.rowwise_adagrad, *theirs, gradient, lr=0.1, eps=1e-10, ball=Ball(**limit))
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other)


@both_types
@pytest.mark.parametrize("pool", [1, 7, 40])
def test_draws_and_policy_gradients_are_the_plain_ones(dtype: torch.dtype, pool: int):
    logits, uniform = 3 * randn(5, pool, dtype=dtype), randn(5, 20, seed=2).sigmoid()
    log_prob, pick = kernels.gpu.draws.draw(logits, uniform)
    plain_log_prob, plain_pick = without_kernels(kernels.draws.draw, logits, uniform)
    assert_close(log_prob, plain_log_prob)
    assert pick.equal(plain_pick)
    advantage, reward, weight = (randn(*shape, dtype=dtype, seed=3) for shape in ((5, 20), (5, pool), (5,)))
    for name, given in (("sampled", (pick, advantage, weight)), ("exact", (reward, weight))):
        mine = getattr(kernels.gpu.draws, f"{name}_policy_gradient")(log_prob, *given)
        assert_close(mine, without_kernels(getattr(kernels.draws, f"{name}_policy_gradient"), log_prob, *given))


@both_types
def test_counts_are_the_plain_ones(dtype: torch.dtype):
    scores = randn(4, 70, dtype=dtype).round(decimals=1)  # with ties
    scores[2, 5] = torch.nan
    truth, target = scores[:, 7].clone(), torch.tensor([107, 107, 3, 169])
    answers = torch.tensor([101, 107, 120, 100, 168, 170, 2])
    left_out = LeftOut(target, torch.tensor([0, 2, -1, 1]), torch.tensor([0, 3, 6, 7]), answers)
    mine, theirs = (RankCounts(*torch.ones((3, 4), dtype=torch.int64)) for _ in range(2))
    count_ranks(mine, scores, 69, truth, left_out, 100)
    without_kernels(kernels.ranks.count_ranks, theirs, scores, 69, truth, left_out, 100)
    for name in ("greater", "equal", "bad"):
        assert getattr(mine, name).equal(getattr(theirs, name)), name
