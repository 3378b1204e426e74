"""Updates of rows, compiled and plain, against torch's own optimisers and the formulas."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.pairs import Comparison
from kernels.row_gradient import RowGradient
from kernels.row_sources import GatheredGradient, PairGradient
from kernels.row_sums import sum_rows
from kernels.updates import Ball, adagrad, adam, adam_factors, rowwise_adagrad
from tests.kernels.arrays import (
    WIDTHS,
    Way,
    assert_close,
    both_types,
    every_way,
    every_width,
    integers,
    on_threads,
    randn,
    without_kernels,
)

ROWS, STEPS = 150, 4  # more than two blocks of rows
FREE = Ball((), None)
every_kind = pytest.mark.parametrize("kind", list(Comparison))
ADAM: dict[str, Any] = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-8}


def adam_of(step: int) -> dict[str, Any]:
    """The options of update number `step`, from 1."""
    rate, root = adam_factors(ADAM["lr"], ADAM["betas"], step)
    return {"rate": rate, "root": root, "betas": ADAM["betas"], "eps": ADAM["eps"]}


def touched(step: int, rows: int = ROWS) -> Tensor:
    """Ascending; none at one step, all at another."""
    share = (0.5, 0.0, 0.1, 2.0)[step]
    return (torch.rand(rows, generator=torch.Generator().manual_seed(step)) < share).nonzero()[:, 0]


def gradient_of(step: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    row = touched(step)
    return row, randn(len(row), width, dtype=dtype, seed=step)


def clipped(rows: Tensor, ball: Ball) -> Tensor:
    if ball.max_norm is None:
        return rows
    parts = rows.split(list(ball.widths), dim=1)
    return torch.cat([p * (ball.max_norm / p.norm(dim=1, keepdim=True)).clamp(max=1) for p in parts], dim=1)


def ball_of(width: int) -> Ball:
    return Ball((width // 2, width - width // 2) if width > 1 else (1,), 0.7)


class State:
    def __init__(self, width: int, dtype: torch.dtype) -> None:
        self.weight = randn(ROWS, width, dtype=dtype, seed=9)
        self.mean, self.square = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        self.square_sum = torch.zeros(ROWS, 1, dtype=dtype)

    def adam(self, step: int, weight_decay: float = 0.0, ball: Ball = FREE, *, everywhere: bool) -> None:
        row, gradient = gradient_of(step, self.weight.shape[1], self.weight.dtype)
        options = {"everywhere": everywhere, "weight_decay": weight_decay, "ball": ball, **adam_of(step + 1)}
        adam(self.weight, self.mean, self.square, RowGradient(row, gradient), **options)

    def adagrad(self, step: int, ball: Ball = FREE) -> None:
        row, gradient = gradient_of(step, self.weight.shape[1], self.weight.dtype)
        rowwise_adagrad(self.weight, self.square_sum, RowGradient(row, gradient), lr=0.1, eps=1e-10, ball=ball)


@every_way
@every_width
@both_types
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam_everywhere_is_torchs(way: Way, width: int, dtype: torch.dtype, weight_decay: float):
    state = State(width, dtype)
    parameter = torch.nn.Parameter(state.weight.double().clone())
    optimizer = torch.optim.Adam([parameter], **ADAM, weight_decay=weight_decay)
    for step in range(STEPS):
        row, gradient = gradient_of(step, width, dtype)
        parameter.grad = torch.zeros_like(parameter).index_copy(0, row, gradient.double())
        optimizer.step()
        way(state.adam, step, weight_decay, everywhere=True)
        # Where the root of the second moment is near eps, rounding of either shows.
        assert_close(state.weight, parameter.detach(), 1e-11 if dtype == torch.float64 else 1e-5)
    assert_close(state.mean, optimizer.state[parameter]["exp_avg"])
    assert_close(state.square, optimizer.state[parameter]["exp_avg_sq"])


@every_way
@every_width
@both_types
def test_adam_of_some_rows_leaves_the_others_as_they_are(way: Way, width: int, dtype: torch.dtype):
    for ball in (FREE, ball_of(width)):
        state = State(width, dtype)
        weight, mean, square = (x.double().clone() for x in (state.weight, state.mean, state.square))
        for step in range(STEPS):
            before = state.weight.clone()
            way(state.adam, step, 0.1, ball, everywhere=False)
            row, gradient = gradient_of(step, width, dtype)
            g = gradient.double() + 0.1 * weight[row]
            mean[row] = 0.8 * mean[row] + 0.2 * g
            square[row] = 0.95 * square[row] + 0.05 * g * g
            hat = (mean[row] / (1 - 0.8 ** (step + 1))), (square[row] / (1 - 0.95 ** (step + 1)))
            weight[row] = clipped(weight[row] - 0.05 * hat[0] / (hat[1].sqrt() + 1e-8), ball)
            tolerance = 1e-11 if dtype == torch.float64 else 1e-5
            assert_close(state.weight, weight, tolerance)
            others = torch.ones(ROWS, dtype=torch.bool).index_fill(0, row, False)
            assert state.weight[others].equal(before[others])
        assert_close(state.mean, mean)
        assert_close(state.square, square)


@every_way
@every_width
@both_types
def test_adam_everywhere_keeps_every_row_in_the_ball(way: Way, width: int, dtype: torch.dtype):
    state, ball = State(width, dtype), ball_of(width)
    way(state.adam, 1, 0.0, ball, everywhere=True)  # a step without gradients
    assert_close(state.weight, clipped(randn(ROWS, width, dtype=dtype, seed=9).double(), ball))


@every_way
@every_width
@both_types
def test_rowwise_adagrad_is_its_formula(way: Way, width: int, dtype: torch.dtype):
    for ball in (FREE, ball_of(width)):
        state = State(width, dtype)
        weight, total = state.weight.double().clone(), state.square_sum.double().clone()
        for step in range(STEPS):
            way(state.adagrad, step, ball)
            row, gradient = gradient_of(step, width, dtype)
            total[row] += gradient.double().square().mean(1, keepdim=True)
            weight[row] = clipped(weight[row] - 0.1 * gradient.double() / (total[row].sqrt() + 1e-10), ball)
            assert_close(state.weight, weight)
            assert_close(state.square_sum, total)


@every_kind
@both_types
@pytest.mark.parametrize("update", ["adam", "adam everywhere", "adagrad"])
def test_a_gradient_that_is_summed_on_the_way_moves_rows_as_the_sum_does(
    kind: Comparison, dtype: torch.dtype, update: str
):
    def step(gradient: RowGradient, state: State) -> None:
        if update == "adagrad":
            return rowwise_adagrad(state.weight, state.square_sum, gradient, lr=0.1, eps=1e-10, ball=ball_of(14))
        options = {"everywhere": update == "adam everywhere", "weight_decay": 0.1, "ball": ball_of(14), **adam_of(1)}
        return adam(state.weight, state.mean, state.square, gradient, **options)

    moved, expected = State(14, dtype), State(14, dtype)
    place, copies = integers(ROWS, 40), randn(40, 14, dtype=dtype, seed=1)
    query, pairs = randn(6, 14, dtype=dtype, seed=2), integers(ROWS, 2, 5, seed=3)
    score = -randn(6, 5, dtype=dtype, seed=4).abs()
    coefficient = randn(6, 5, dtype=dtype, seed=5)
    sources = [GatheredGradient(place, copies), PairGradient(pairs, kind, coefficient, score, query)]
    step(RowGradient(*sum_rows(sources, expected.weight, dtype)), expected)
    step(RowGradient.of(sources, moved.weight), moved)
    assert moved.weight.equal(expected.weight)
    assert not moved.weight.equal(State(14, dtype).weight)


@every_way
@every_width
@both_types
def test_adagrad_of_single_numbers_is_torchs(way: Way, width: int, dtype: torch.dtype):
    weight, total = randn(ROWS, width, dtype=dtype), torch.zeros(ROWS, width, dtype=dtype)
    parameter = torch.nn.Parameter(weight.double().clone())
    optimizer = torch.optim.Adagrad([parameter], lr=0.1, eps=1e-10)
    for step in range(STEPS):
        gradient = randn(ROWS, width, dtype=dtype, seed=step)
        parameter.grad = gradient.double()
        optimizer.step()
        way(adagrad, weight, total, gradient, lr=0.1, eps=1e-10)
        assert_close(weight, parameter.detach())


@every_way
@both_types
def test_rows_are_clipped_part_by_part(way: Way, dtype: torch.dtype):
    for widths in [(width,) for width in WIDTHS] + [(1, 2, 7), (16, 16), (50, 3, 17)]:
        rows = randn(20, sum(widths), dtype=dtype)
        rows[:5] *= 0.01
        rows[5] = 0
        ball = Ball(widths, 0.5)
        expected = clipped(rows.double().clone(), ball).nan_to_num(0.0)  # the plain one here divides 0 by 0
        within = rows[:5].clone()
        way(ball.clip_, rows)
        assert_close(rows, expected)
        assert rows[:5].equal(within)
        assert all(part.norm(dim=1).max() <= 0.5 * (1 + 1e-6) for part in rows.split(list(widths), dim=1))
        before = rows.clone()
        way(Ball(widths, None).clip_, rows)
        assert rows.equal(before)
    nothing = torch.empty(0, 4, dtype=dtype)
    way(Ball((4,), 0.5).clip_, nothing)


@every_way
@both_types
def test_a_nan_gradient_shows_in_its_own_row_alone(way: Way, dtype: torch.dtype):
    row, gradient = torch.tensor([3, 70]), randn(2, 20, dtype=dtype)
    gradient[1, 17] = torch.nan
    for ball in (FREE, Ball((20,), 0.7)):
        one, other = State(20, dtype), State(20, dtype)
        options = {"everywhere": True, "weight_decay": 0.0, "ball": ball, **adam_of(1)}
        way(adam, one.weight, one.mean, one.square, RowGradient(row, gradient), **options)
        way(rowwise_adagrad, other.weight, other.square_sum, RowGradient(row, gradient), lr=0.1, eps=1e-10, ball=ball)
        for state in (one, other):
            assert state.weight.isnan().any(1).nonzero()[:, 0].tolist() == [70]


@both_types
def test_updates_do_not_depend_on_the_number_of_threads(dtype: torch.dtype):
    def everything() -> list[Tensor]:
        states = [State(50, dtype) for _ in range(3)]
        for step in range(STEPS):
            states[0].adam(step, 0.1, ball_of(50), everywhere=True)
            states[1].adam(step, 0.1, ball_of(50), everywhere=False)
            states[2].adagrad(step, ball_of(50))
        return [state.weight for state in states]

    for one, two in zip(on_threads(1, everything), on_threads(2, everything), strict=True):
        assert one.equal(two)


@both_types
@pytest.mark.parametrize("update", ["adagrad", "adam", "dense adagrad"])
def test_a_rate_that_lies_in_a_tensor_moves_rows_alike(update: str, dtype: torch.dtype):
    def moved(number: Callable[[float], Any]) -> State:
        state, (row, gradient) = State(7, dtype), gradient_of(0, 7, dtype)
        if update == "dense adagrad":
            adagrad(state.weight[: len(row)], state.mean[: len(row)], gradient, lr=number(0.1), eps=1e-10)
        elif update == "adagrad":
            of_rows = RowGradient(row, gradient)
            rowwise_adagrad(state.weight, state.square_sum, of_rows, lr=number(0.1), eps=1e-10, ball=ball_of(7))
        else:
            options = {**adam_of(2), "everywhere": False, "weight_decay": 0.1, "ball": ball_of(7)}
            options |= {name: number(options[name]) for name in ("rate", "root")}
            adam(state.weight, state.mean, state.square, RowGradient(row, gradient), **options)
        return state

    there = without_kernels(moved, lambda number: torch.tensor(number, dtype=torch.float64))
    here = without_kernels(moved, float)
    for name in ("weight", "mean", "square", "square_sum"):
        assert getattr(there, name).equal(getattr(here, name)), name
