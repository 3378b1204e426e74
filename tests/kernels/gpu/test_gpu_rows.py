"""Sums, updates, draws and random numbers by Triton's kernels, against the CPU's."""

import pytest
import torch
from torch import Tensor

import kernels.counter_random
import kernels.draws
import kernels.gpu.available
import kernels.gpu.counter_random
import kernels.gpu.draws
import kernels.gpu.updates
import kernels.library
import kernels.updates
from kernels.gathered import distinct_sums, sums_in_slots, whole_sums
from kernels.library import usable
from kernels.row_gradient import RowGradient
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


@pytest.fixture
def kernels_take_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that chooses between plain torch and Triton's kernels takes tensors of the CPU for those of a GPU."""
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    monkeypatch.setattr(kernels.gpu.available, "_DEVICE", "cpu")
    monkeypatch.setattr(kernels.gpu.available, "_is_new", lambda device: True)


@both_types
@pytest.mark.parametrize("rows", [7, 60])
def test_sums_are_those_in_float64(dtype: torch.dtype, rows: int, kernels_take_the_cpu: None):
    place, value = integers(rows, 40), randn(40, WIDTH, dtype=dtype)
    total = torch.zeros((rows, WIDTH), dtype=torch.float64).index_add_(0, place, value.double())
    distinct = sorted(set(place.tolist()))
    row, found = sums_in_slots(place, value, rows, dtype)
    assert row.tolist() == [*distinct, *[distinct[-1]] * (min(rows, 40) - len(distinct))]
    assert_close(found[: len(distinct)], total[distinct])
    assert not found[len(distinct) :].any()
    row, found = distinct_sums(place, value, rows, dtype)
    assert row.tolist() == distinct
    assert_close(found, total[row])
    row, found = sums_in_slots(place[:0], value[:0], rows, dtype)
    assert (len(row), len(found)) == (0, 0)


@both_types
@pytest.mark.parametrize("few", [False, True])
def test_sums_of_all_rows_are_zeros_where_nothing_occurs(dtype: torch.dtype, few: bool, kernels_take_the_cpu: None):
    place, value = integers(7, 70) + 1, randn(70, 2 * WIDTH, dtype=dtype)
    total = torch.zeros((9, 2 * WIDTH), dtype=torch.float64).index_add_(0, place, value.double())
    found = whole_sums(place, value, 9, dtype, few=few)
    assert_close(found, total)
    assert not found[[0, 8]].any()
    nothing = torch.zeros((2, 2 * WIDTH), dtype=dtype)
    assert whole_sums(place[:0], value[:0], 2, dtype, few=few).equal(nothing)


PLACE = torch.tensor([8, 1, 3, 8, 3, 3])
"""Where the gradients of a step occur; of row 8 there are two."""


def both_gradients(dtype: torch.dtype, *, summed: bool) -> tuple[tuple[Tensor, Tensor | None, Tensor], RowGradient]:
    """What a kernel takes, and the same gradient as plain torch takes it."""
    value = randn(6, WIDTH, dtype=dtype, seed=1)
    row = torch.tensor([1, 3, 8])
    total = torch.zeros((9, WIDTH), dtype=torch.float64).index_add_(0, PLACE, value.double())[row].to(dtype)
    theirs = RowGradient(row, total)
    if summed:  # the last row repeats, as after `sums_in_slots`
        return (torch.tensor([1, 3, 8, 8, 8]), None, torch.cat([total, torch.zeros((2, WIDTH), dtype=dtype)])), theirs
    return (*PLACE.sort(stable=True), value), theirs


@both_types
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("way", ["everywhere", "everywhere, summed by the kernel", "summed", "summed by the kernel"])
def test_updates_are_the_plain_ones(dtype: torch.dtype, max_norm: float | None, way: str):
    limit = {"widths": (2, 4), "max_norm": max_norm}
    mine, theirs = ([randn(9, WIDTH, dtype=dtype), *torch.zeros((2, 9, WIDTH), dtype=dtype)] for _ in range(2))
    given, gradient = both_gradients(dtype, summed=way == "summed")
    if way == "everywhere":
        given = None, None, torch.zeros((9, WIDTH), dtype=dtype).index_copy_(0, gradient.row, gradient.value)
    for step, good in enumerate((None, torch.tensor(True), torch.tensor(False)), start=1):
        before = [each.clone() for each in mine]
        common = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
        rate, root = kernels.updates.adam_factors(0.1, (0.9, 0.999), step)
        factors = {"rate": rate, "root": root}
        everywhere = way.startswith("everywhere")
        # A step that a GPU repeats reads them there.
        mine_factors = {name: torch.tensor(each, dtype=torch.float64) for name, each in factors.items()}
        read = factors if step == 1 else mine_factors
        kernels.gpu.updates.adam(*mine, *given, good, everywhere=everywhere, **common, **read, **limit)
        if good is None or good:
            options = {**common, **factors, "everywhere": everywhere, "ball": Ball(**limit)}
            without_kernels(kernels.updates.adam, *theirs, gradient, **options)
        else:
            assert all(one.equal(other) for one, other in zip(mine, before, strict=True))
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other)


@both_types
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("summed", [False, True])
def test_rowwise_adagrad_is_the_plain_one(dtype: torch.dtype, max_norm: float | None, summed: bool):
    limit = {"widths": (2, 4), "max_norm": max_norm}
    mine, theirs = ([randn(9, WIDTH, dtype=dtype), torch.full((9, 1), 0.1, dtype=dtype)] for _ in range(2))
    given, gradient = both_gradients(dtype, summed=summed)
    for good in (None, torch.tensor(True), torch.tensor(False)):
        before = [each.clone() for each in mine]
        kernels.gpu.updates.rowwise_adagrad(*mine, *given, good, lr=0.1, eps=1e-10, **limit)
        if good is None or good:
            ball = Ball(**limit)
            without_kernels(kernels.updates.rowwise_adagrad, *theirs, gradient, lr=0.1, eps=1e-10, ball=ball)
        else:
            assert all(one.equal(other) for one, other in zip(mine, before, strict=True))
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other)


@both_types
def test_dense_adagrad_and_clipping_are_the_plain_ones(dtype: torch.dtype):
    mine, theirs = ([randn(9, WIDTH, dtype=dtype), torch.full((9, WIDTH), 0.1, dtype=dtype)] for _ in range(2))
    gradient, limit = randn(9, WIDTH, dtype=dtype, seed=1), {"widths": (2, 4), "max_norm": 1.0}
    for good in (None, torch.tensor(True), torch.tensor(False)):
        before = [each.clone() for each in mine]
        kernels.gpu.updates.adagrad(*mine, gradient, good, lr=0.1, eps=1e-10)
        kernels.gpu.updates.clip(mine[0], good, **limit)
        if good is None or good:
            without_kernels(kernels.updates.adagrad, *theirs, gradient, lr=0.1, eps=1e-10)
            without_kernels(Ball(**limit).clip_, theirs[0])
        else:
            assert all(one.equal(other) for one, other in zip(mine, before, strict=True))
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other)


@both_types
@pytest.mark.parametrize("pool", [1, 7, 40])
def test_draws_and_policy_gradients_are_the_plain_ones(dtype: torch.dtype, pool: int):
    logits, uniform = 3 * randn(6, pool, dtype=dtype), randn(6, 20, seed=2).sigmoid()
    for groups in (6, 2, 1):
        candidates = integers(1000, groups * pool).view(groups, pool)
        mine = log_prob, pick, entity, drawn = kernels.gpu.draws.draw(logits, uniform, candidates)
        plain = without_kernels(kernels.draws.draw_from, candidates, logits, uniform)
        assert_close(log_prob, logits.double().log_softmax(1))
        assert_close(drawn, plain[3])
        assert all(one.equal(other) for one, other in zip(mine[1:3], plain[1:3], strict=True))
        assert entity.equal(candidates.repeat_interleave(6 // groups, 0).gather(1, pick))
    advantage, reward, weight = (randn(*shape, dtype=dtype, seed=3) for shape in ((6, 20), (6, pool), (6,)))
    for name, given in (("sampled", (pick, advantage, weight)), ("exact", (reward, weight))):
        mine = getattr(kernels.gpu.draws, f"{name}_policy_gradient")(log_prob, *given)
        assert_close(mine, without_kernels(getattr(kernels.draws, f"{name}_policy_gradient"), log_prob, *given))


@both_types
def test_rates_that_lie_in_a_tensor_move_rows_alike(dtype: torch.dtype):
    there, here = ([randn(9, WIDTH, dtype=dtype), torch.full((9, 1), 0.1, dtype=dtype)] for _ in range(2))
    given, _ = both_gradients(dtype, summed=False)
    for (weight, state), lr in ((there, torch.tensor(0.1, dtype=torch.float64)), (here, 0.1)):
        limit = {"widths": (WIDTH,), "max_norm": None}
        kernels.gpu.updates.rowwise_adagrad(weight, state, *given, None, lr=lr, eps=1e-10, **limit)
        kernels.gpu.updates.adagrad(weight[:, :1], state, given[2][:1, :1].expand(9, 1), None, lr=lr, eps=1e-10)
    assert all(one.equal(other) for one, other in zip(there, here, strict=True))


def test_the_key_of_random_numbers_may_lie_in_a_tensor():
    outer = integers(1 << 40, 5)
    for key in (0, -(1 << 63), (1 << 62) + 7):
        given = torch.tensor(key), outer, 3
        expected = kernels.counter_random.random_integers(key, outer, 3, 77)
        assert kernels.gpu.counter_random.random_integers(*given, 77).equal(expected)
        expected = kernels.counter_random.random_uniform(key, outer, 3)
        assert kernels.gpu.counter_random.random_uniform(*given).equal(expected)
