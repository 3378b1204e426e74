"""Random numbers in one pass: the same bits as graph/counter_random.py makes of torch's operations."""

import pytest
import torch
from torch import Tensor

from graph.counter_random import (
    combine,
    paired_at_least,
    paired_integers,
    paired_uniform,
    random_integers,
    random_uniform,
    stream,
)
from graph.permutation import permuted
from tests.kernels.arrays import on_threads, without_kernels

KEYS = [stream("pool", 3, 14), 0, -1, (1 << 63) - 1, -(1 << 63)]
OUTER = torch.tensor([0, 1, 2, 77, 14541, 1 << 40, (1 << 63) - 1, -1, -(1 << 63), 5, 6])

every_key = pytest.mark.parametrize("key", KEYS)
COUNTS = (0, 1, 2, 7, 16, 50, 200)


def counters(outer: Tensor, count: int) -> Tensor:
    return combine(outer[:, None], torch.arange(count))


@every_key
@pytest.mark.parametrize("high", [1, 3, 14541, 1 << 32, 1 << 40, (1 << 62) - 57, (1 << 63) - 1])
def test_integers_are_those_of_the_counters(key: int, high: int):
    for count in COUNTS:
        expected = random_integers(key, counters(OUTER, count), high)
        assert paired_integers(key, OUTER, count, high).equal(expected)
        assert without_kernels(paired_integers, key, OUTER, count, high).equal(expected)
        assert not count or 0 <= expected.min() <= expected.max() < high


@every_key
def test_uniform_numbers_are_those_of_the_counters(key: int):
    for count in COUNTS:
        expected = random_uniform(key, counters(OUTER, count))
        assert paired_uniform(key, OUTER, count).equal(expected)
        assert without_kernels(paired_uniform, key, OUTER, count).equal(expected)


@every_key
@pytest.mark.parametrize("least", [0.0, 2.0**-53, 0.1, 0.3, 0.5, 1 - 2.0**-53, 1.0])
def test_numbers_are_compared_as_they_are(key: int, least: float):
    for count in COUNTS:
        expected = random_uniform(key, counters(OUTER, count)) >= least
        assert paired_at_least(key, OUTER, count, least).equal(expected)
        assert without_kernels(paired_at_least, key, OUTER, count, least).equal(expected)


def test_a_number_is_at_least_itself():
    number = random_uniform(3, counters(OUTER, 7))
    for least in number.flatten().tolist():
        assert paired_at_least(3, OUTER, 7, least).equal(number >= least)


def test_outer_numbers_need_not_lie_together():
    spread = OUTER.repeat_interleave(3)[::3]
    assert paired_integers(1, spread, 5, 9).equal(paired_integers(1, OUTER, 5, 9))
    assert paired_uniform(1, spread, 5).equal(paired_uniform(1, OUTER, 5))
    assert paired_integers(1, OUTER[:0], 5, 9).shape == (0, 5)
    assert paired_uniform(1, OUTER[:0], 5).shape == (0, 5)
    assert paired_at_least(1, spread, 5, 0.5).equal(paired_at_least(1, OUTER, 5, 0.5))


def test_numbers_do_not_depend_on_the_number_of_threads():
    outer = torch.arange(300)
    one, two = (on_threads(number, paired_integers, 1, outer, 50, 14541) for number in (1, 2))
    assert one.equal(two)
    one, two = (on_threads(number, paired_uniform, 1, outer, 50) for number in (1, 2))
    assert one.equal(two)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 4097, 20_000_003])
def test_permuted_places_are_those_of_torch(size: int):
    place = torch.arange(max(0, size - 40_000), size)
    expected = without_kernels(permuted, place, size, 5)
    assert permuted(place, size, 5).equal(expected)
    assert on_threads(2, permuted, place, size, 5).equal(expected)
    assert permuted(place[:0], size, 5).shape == (0,)


def test_places_of_a_permutation_need_not_lie_together():
    place = torch.arange(3000)
    assert permuted(place[::3], 3000, -1).equal(permuted(place, 3000, -1)[::3])
    assert permuted(torch.tensor([(1 << 62) - 1]), 1 << 62, 5).equal(
        without_kernels(permuted, torch.tensor([(1 << 62) - 1]), 1 << 62, 5)
    )
