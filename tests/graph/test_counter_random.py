"""Random numbers as a function of a key: a change of any of these values changes every run."""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import graph.counter_random
from graph.counter_random import combine, random_bits, random_integers, random_uniform, stream

MASK = (1 << 64) - 1
MANY = 40_000

PINNED_KEY = 1154399788249411957
PINNED_BITS = [
    [-7540763115694596181, 8625589769629844614, -6441251710390920547],
    [-8745439532183627447, -2862518793604538985, -4729309621984549473],
]
PINNED_INTEGERS = [[717, 307, 534], [84, 315, 71]]
PINNED_UNIFORM = [
    [0.5912144123882678, 0.467594158360071, 0.6508190451034096],
    [0.5259087729932949, 0.8448225452596686, 0.7436236116743876],
]


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def test_mixing_is_splitmix64():
    # The generator's published first output for two seeds (Vigna's splitmix64.c; Rosetta Code for the second).
    published = {0: 0xE220A8397B1DCDAF, 1234567: 6457827717110365317}
    assert stream("", 0) & MASK == published[0]
    for seed, output in published.items():
        key = published[0] ^ seed  # counter 0 is mixed to published[0], which this key takes out
        bits = random_bits(key - (1 << 64) if key >> 63 else key, torch.tensor([0]))
        assert int(bits) & MASK == output


def test_values_are_those_of_earlier_runs():
    key = stream("pool", 3, 14)
    counter = combine(torch.tensor([[0], [7]]), torch.arange(3))
    assert key == PINNED_KEY
    assert random_bits(key, counter).tolist() == PINNED_BITS
    assert random_integers(key, counter, 1000).tolist() == PINNED_INTEGERS
    assert random_uniform(key, counter).tolist() == PINNED_UNIFORM


def test_a_value_depends_on_its_counter_alone():
    key, counter = stream("draw", 1), torch.arange(60)
    whole = random_uniform(key, counter)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert random_uniform(key, counter[order]).equal(whole[order])
    assert random_uniform(key, counter.view(3, 4, 5)).equal(whole.view(3, 4, 5))
    assert random_uniform(key, counter[17:18]).equal(whole[17:18])
    assert random_uniform(key, counter[:0]).shape == (0,)
    assert random_integers(key, counter[order], 9).equal(random_integers(key, counter, 9)[order])


def test_combine_tells_pairs_apart():
    pairs = combine(torch.arange(-100, 100)[:, None], torch.arange(200))
    assert pairs.shape == (200, 200)
    assert len(pairs.unique()) == pairs.numel()
    assert pairs[30, 40] == combine(torch.tensor(-70), torch.tensor(40))


def test_streams_differ_by_purpose_and_by_every_part_of_the_key():
    keys = [stream("pool"), stream("draw"), stream("pool", 0), stream("pool", 0, 0)]
    keys += [stream("pool", seed, epoch) for seed in range(-20, 20) for epoch in range(40) if (seed, epoch) != (0, 0)]
    assert len(set(keys)) == len(keys)
    assert all(-(1 << 63) <= key < 1 << 63 for key in keys)


@pytest.mark.parametrize("key", [stream("pool", 0, 0), stream("pool", 0, 1), stream("draw", 123456789, 5)])
def test_uniform_numbers_are_uniform(key: int):
    for counter in (torch.arange(MANY), combine(torch.arange(MANY // 8)[:, None], torch.arange(8)).flatten()):
        value = random_uniform(key, counter)
        assert chisquare(torch.histc(value, 64, 0, 1).numpy()).pvalue > 1e-3
        # The finest digits too, and one value says nothing about the next.
        assert chisquare(torch.histc(value * 2**20 % 1, 64, 0, 1).numpy()).pvalue > 1e-3
        assert abs(correlation(value[1:], value[:-1])) < 4 / math.sqrt(MANY)


def test_integers_are_uniform_and_in_range():
    for high in (1, 2, 7, 14541):
        value = random_integers(stream("pool", 5), torch.arange(MANY), high)
        assert value.min() >= 0
        assert value.max() < high
        if high > 1:
            cells = min(high, 60)
            count = torch.bincount(value * cells // high, minlength=cells)
            width = torch.bincount(torch.arange(high) * cells // high, minlength=cells)
            assert chisquare(count.numpy(), (width.double() * MANY / high).numpy()).pvalue > 1e-3
    wide = random_integers(stream("pool", 5), torch.arange(MANY), 1 << 62)
    assert wide.min() >= 0
    assert wide.max() < 1 << 62
    assert wide.max() > 0.99 * (1 << 62)


def test_streams_are_independent():
    counter = torch.arange(MANY)
    base = random_uniform(stream("pool", 3, 4), counter)
    for other in (("pool", 3, 5), ("pool", 4, 4), ("pool", 4, 3), ("draw", 3, 4)):
        value = random_uniform(stream(*other), counter)
        cells = (base * 8).long() * 8 + (value * 8).long()
        assert chisquare(torch.bincount(cells, minlength=64).numpy()).pvalue > 1e-3
        assert abs(correlation(base, value)) < 4 / math.sqrt(MANY)


def test_neighbouring_counters_differ_in_half_of_their_bits():
    for key in (0, stream("pool", 0)):
        bits = random_bits(key, torch.arange(4096))
        change = bits ^ random_bits(key, torch.arange(4096) ^ 1)
        flipped = (change[:, None] >> torch.arange(64)) & 1
        assert flipped.double().mean(0).sub(0.5).abs().max() < 0.04


def test_uniform_numbers_are_never_0_or_1(monkeypatch: pytest.MonkeyPatch):
    extremes = torch.tensor([0, -1, (1 << 63) - 1, -(1 << 63)])
    monkeypatch.setattr(graph.counter_random, "random_bits", lambda key, counter: extremes)
    value = random_uniform(0, torch.arange(4))
    assert (value > 0).all()
    assert (value < 1).all()
    assert value.log().isfinite().all()
    assert (-value).log1p().isfinite().all()
    integers = random_integers(0, torch.arange(4), 7)
    assert (integers >= 0).all()
    assert (integers < 7).all()
