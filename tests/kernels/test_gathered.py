"""Sums and updates of rows whose number the host does not know, as on a GPU, by plain torch on the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels.library
from kernels.gathered import distinct_sums, sums_in_slots
from kernels.gpu import available
from kernels.row_gradient import RowGradient
from kernels.row_sources import GatheredGradient
from kernels.updates import Ball, adagrad, adam, adam_factors, rowwise_adagrad
from tests.kernels.arrays import both_types, integers, randn

WIDTH, ROWS = 6, 9
RATE, ROOT = adam_factors(0.1, (0.9, 0.999), 3)
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "rate": RATE, "root": ROOT}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    return monkeypatch


def as_on_a_gpu(plain: pytest.MonkeyPatch, function: Callable[..., Any], *arguments: Any) -> Any:
    """What plain torch does with tensors of a GPU."""
    with plain.context() as patch:
        patch.setattr(available, "_DEVICE", "cpu")
        patch.setattr(available, "has_triton", lambda: False)
        return function(*arguments)


@both_types
@pytest.mark.parametrize("count", [1, 5, 40])
@pytest.mark.parametrize("rows", [1, 9, 100])
def test_slots_hold_the_sums_of_distinct_places_and_then_zeros(
    count: int, rows: int, dtype: torch.dtype, plain: pytest.MonkeyPatch
):
    place, value = integers(rows, count), randn(count, WIDTH, dtype=dtype)
    row, total = distinct_sums(place, value, rows, dtype)
    slot, found = sums_in_slots(place, value, rows, dtype)
    assert len(slot) == min(count, rows)
    assert slot.tolist() == [*row.tolist(), *[int(row[-1])] * (len(slot) - len(row))]
    assert found[: len(row)].equal(total)
    assert not found[len(row) :].any()
    counted, sums = as_on_a_gpu(plain, distinct_sums, place, value, rows, dtype)
    assert counted.equal(row) and sums.equal(total)


def gradient_of(dtype: torch.dtype) -> RowGradient:
    """Of rows that occur up to three times, so that slots are left over."""
    sources = [
        GatheredGradient(torch.tensor(place), randn(len(place), WIDTH, dtype=dtype, seed=len(place)))
        for place in ([5, 2, 2], [8, 5, 5, 0])
    ]
    return RowGradient.of(sources, torch.zeros((ROWS, WIDTH), dtype=dtype))


MOVES: dict[str, Callable[..., None]] = {
    "row-wise Adagrad": lambda weight, gradient, good: rowwise_adagrad(
        *(weight[0], weight[1][:, :1]), gradient, lr=0.1, eps=1e-10, ball=Ball((2, 4), 1.0), good=good
    ),
    "lazy Adam": lambda weight, gradient, good: adam(
        *weight, gradient, everywhere=False, weight_decay=0.0, ball=Ball((2, 4), 1.0), good=good, **ADAM
    ),
    "Adam": lambda weight, gradient, good: adam(
        *weight, gradient, everywhere=True, weight_decay=0.01, ball=Ball((WIDTH,), 1.0), good=good, **ADAM
    ),
    "Adagrad": lambda weight, gradient, good: adagrad(*weight[:2], gradient.of_all(ROWS), lr=0.1, eps=1e-10, good=good),
}


def state(dtype: torch.dtype) -> list[Tensor]:
    """Weights, some of them longer than the limit by rounding alone, and two positive states."""
    weight = randn(ROWS, WIDTH, dtype=dtype)
    Ball((2, 4), 1.0).clip_(weight)
    return [weight, *(randn(ROWS, WIDTH, dtype=dtype, seed=seed).square() for seed in (1, 2))]


@both_types
@pytest.mark.parametrize("name", MOVES)
def test_rows_move_as_on_the_cpu_to_the_bit(name: str, dtype: torch.dtype, plain: pytest.MonkeyPatch):
    expected = state(dtype)
    MOVES[name](expected, gradient_of(dtype), None)
    for good in (None, torch.tensor(True)):
        found = state(dtype)
        as_on_a_gpu(plain, lambda good=good, found=found: MOVES[name](found, gradient_of(dtype), good))
        assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@both_types
@pytest.mark.parametrize("name", MOVES)
def test_nothing_moves_with_a_step_that_is_no_good(name: str, dtype: torch.dtype, plain: pytest.MonkeyPatch):
    found = state(dtype)
    gradient = gradient_of(dtype)
    for value in (gradient.value, torch.full_like(gradient.value, torch.nan)):
        MOVES[name](found, RowGradient(gradient.row, value), torch.tensor(False))
    Ball((2, 4), 0.5).clip_(spared := found[0].clone(), torch.tensor(False))
    for one, other in zip((*found, spared), (*state(dtype), found[0]), strict=True):
        assert one.equal(other)


@both_types
def test_a_gradient_of_all_rows_has_zeros_where_there_is_none(dtype: torch.dtype, plain: pytest.MonkeyPatch):
    expected = gradient_of(dtype).of_all(ROWS)
    assert not expected[[1, 3, 4, 6, 7]].any()

    def both() -> list[Tensor]:
        read = gradient_of(dtype)
        assert len(read.row) == 7  # 4 rows, and 3 times the last one again
        return [gradient_of(dtype).of_all(ROWS), read.of_all(ROWS), RowGradient(read.row, read.value).of_all(ROWS)]

    assert all(found.equal(expected) for found in as_on_a_gpu(plain, both))


def whole_gradient(dtype: torch.dtype, reached: list[int]) -> RowGradient:
    """The gradient that `RowGradient.of_whole` makes of sums of all rows."""
    value = torch.zeros((ROWS, WIDTH), dtype=dtype)
    value[reached] = randn(len(reached), WIDTH, dtype=dtype)
    value[reached[1:2]] = 0.0  # a row may be reached by a gradient of 0
    row = torch.arange(ROWS)
    return RowGradient.of_whole(value, torch.isin(row, torch.tensor(reached, dtype=row.dtype)))


@both_types
@pytest.mark.parametrize("reached", [[0, 2, 5], [3, 8], [*range(ROWS)]], ids=str)
@pytest.mark.parametrize("name", MOVES)
def test_of_sums_of_all_rows_those_that_were_reached_move(
    name: str, reached: list[int], dtype: torch.dtype, plain: pytest.MonkeyPatch
):
    expected = state(dtype)
    gradient = whole_gradient(dtype, reached)
    assert gradient.row.tolist() == reached
    MOVES[name](expected, gradient, None)
    for good in (None, torch.tensor(True)):
        found = state(dtype)
        as_on_a_gpu(plain, lambda good=good, found=found: MOVES[name](found, whole_gradient(dtype, reached), good))
        assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@both_types
def test_of_sums_of_all_rows_nobody_need_know_whether_one_was_reached(dtype: torch.dtype, plain: pytest.MonkeyPatch):
    assert len(whole_gradient(dtype, []).row) == 0

    def unmoved() -> None:
        gradient, found = whole_gradient(dtype, []), state(dtype)
        assert len(gradient.row) == ROWS  # slots for as many as there could be
        for name in ("row-wise Adagrad", "lazy Adam"):
            MOVES[name](found, gradient, gradient.some)
            assert all(one.equal(other) for one, other in zip(found, state(dtype), strict=True))

    as_on_a_gpu(plain, unmoved)
