"""Draws from a softmax, and policy gradients, against the formulas in float64."""

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from kernels.draws import draw, exact_policy_gradient, sampled_policy_gradient
from tests.kernels.arrays import assert_close, both_types, integers, on_threads, randn

every_pool = pytest.mark.parametrize("pool", [1, 2, 7, 16, 50, 200])
EDGE = 1e-6


def uniform(*shape: int, seed: int = 0) -> Tensor:
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.clamp(2.0**-53, 1 - 2.0**-53)


def assert_draws(logits: Tensor, numbers: Tensor) -> None:
    log_prob, pick = draw(logits, numbers)
    expected = logits.double().log_softmax(1)
    assert log_prob.dtype == logits.dtype
    possible = logits > -torch.inf
    assert_close(log_prob[possible], expected[possible])
    assert (log_prob[~possible] == -torch.inf).all()
    cumulative = expected.exp().cumsum(1)
    inverted = torch.searchsorted(cumulative, numbers).clamp(max=logits.shape[1] - 1)
    assert pick.shape == numbers.shape
    on_an_edge = ((cumulative[:, None] - numbers[:, :, None]).abs() < EDGE).any(2)
    assert ((pick == inverted) | on_an_edge).all()
    assert on_an_edge.sum() <= 0.1 * on_an_edge.numel()
    assert possible.gather(1, pick).all()


@every_pool
@both_types
def test_draws_invert_the_cumulative_sum(pool: int, dtype: torch.dtype):
    for rows, draws in [(0, 3), (1, 0), (1, 1), (9, 40)]:
        for size in (0.0, 1.0, 20.0):
            assert_draws(size * randn(rows, pool, dtype=dtype, seed=1), uniform(rows, draws))


@every_pool
@both_types
@pytest.mark.parametrize("level", [-1000.0, 1000.0])
def test_the_level_of_scores_does_not_matter(pool: int, dtype: torch.dtype, level: float):
    assert_draws(level + randn(5, pool, dtype=dtype, seed=1), uniform(5, 20))


@pytest.mark.parametrize("pool", [2, 7, 16, 50, 200])
@both_types
def test_an_impossible_candidate_is_never_drawn(pool: int, dtype: torch.dtype):
    numbers = torch.cat([uniform(6, 40), torch.tensor([[2.0**-53, 0.5, 1 - 2.0**-53]]).repeat(6, 1)], dim=1)
    logits = randn(6, pool, dtype=dtype, seed=1)
    for hidden in (slice(0, 1), slice(pool - 1, pool), slice(0, pool // 2), slice(pool // 2, pool), slice(1, pool)):
        masked = logits.clone()
        masked[:, hidden] = -torch.inf
        assert_draws(masked, numbers)


@both_types
def test_rows_that_do_not_lie_together_are_taken_too(dtype: torch.dtype):
    logits, numbers = randn(7, 5, dtype=dtype, seed=1), uniform(4, 5)
    for mine, theirs in zip(draw(logits.T, numbers.T), draw(logits.T.clone(), numbers.T.clone()), strict=True):
        assert mine.equal(theirs)


@both_types
def test_draws_have_the_softmaxs_distribution(dtype: torch.dtype):
    logits = randn(1, 11, dtype=dtype, seed=1)
    _, pick = draw(logits, uniform(1, 40_000, seed=5))
    expected = 40_000 * logits.double().softmax(1)[0]
    assert chisquare(pick[0].bincount(minlength=11).numpy(), expected.numpy()).pvalue > 0.01


@both_types
def test_a_nan_shows_in_its_own_row_alone(dtype: torch.dtype):
    for place in range(9):
        logits = randn(3, 9, dtype=dtype, seed=1)
        logits[1, place] = torch.nan
        log_prob, pick = draw(logits, uniform(3, 4))
        assert log_prob.isnan().all(1).tolist() == log_prob.isnan().any(1).tolist() == [False, True, False]
        assert ((pick >= 0) & (pick < 9)).all()


@every_pool
@both_types
def test_the_sampled_gradient_is_autograds(pool: int, dtype: torch.dtype):
    for rows, draws in [(0, 3), (1, 0), (1, 1), (9, 5)]:
        logits = 2 * randn(rows, pool, dtype=dtype, seed=1)
        log_prob, pick = draw(logits, uniform(rows, draws))
        advantage, weight = randn(rows, draws, dtype=dtype, seed=2), randn(rows, dtype=dtype, seed=3)
        found = sampled_policy_gradient(log_prob, pick, advantage, weight)
        variable = logits.double().requires_grad_()
        gain = (variable.log_softmax(1).gather(1, pick) * advantage.double()).sum(1) @ weight.double()
        assert_close(found, torch.autograd.grad(gain, variable)[0])


@every_pool
@both_types
def test_the_exact_gradient_is_autograds(pool: int, dtype: torch.dtype):
    for rows in (0, 1, 9):
        logits = 2 * randn(rows, pool, dtype=dtype, seed=1)
        reward, weight = randn(rows, pool, dtype=dtype, seed=2), randn(rows, dtype=dtype, seed=3)
        found = exact_policy_gradient(logits.log_softmax(1), reward, weight)
        variable = logits.double().requires_grad_()
        gain = (variable.softmax(1) * reward.double()).sum(1) @ weight.double()
        assert_close(found, torch.autograd.grad(gain, variable)[0])


@both_types
def test_an_impossible_candidate_has_gradient_0(dtype: torch.dtype):
    logits = randn(4, 21, dtype=dtype, seed=1)
    logits[:, ::3] = -torch.inf
    log_prob, pick = draw(logits, uniform(4, 6))
    sampled = sampled_policy_gradient(log_prob, pick, randn(4, 6, dtype=dtype), torch.ones(4, dtype=dtype))
    exact = exact_policy_gradient(log_prob, randn(4, 21, dtype=dtype), torch.ones(4, dtype=dtype))
    for each in (sampled, exact):
        assert (each[:, ::3] == 0).all()
        assert each.isfinite().all()


@both_types
def test_nothing_depends_on_the_number_of_threads(dtype: torch.dtype):
    logits, numbers, pick = randn(30, 50, dtype=dtype), uniform(30, 9), integers(50, 30, 9)
    advantage, weight = randn(30, 9, dtype=dtype, seed=2), randn(30, dtype=dtype, seed=3)

    def everything() -> list[Tensor]:
        log_prob, drawn = draw(logits, numbers)
        sampled = sampled_policy_gradient(log_prob, pick, advantage, weight)
        return [log_prob, drawn, sampled, exact_policy_gradient(log_prob, logits, weight)]

    for one, two in zip(on_threads(1, everything), on_threads(2, everything), strict=True):
        assert one.equal(two)
