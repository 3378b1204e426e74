"""A permutation that is computed place by place: each number once, and as random as drawn ones."""

import pytest
import torch
from scipy.stats import chisquare

from graph.permutation import permuted


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 4097, 100_003])
def test_each_number_comes_once(size: int):
    assert permuted(torch.arange(size), size, 5).sort().values.equal(torch.arange(size))


def test_a_place_has_its_number_whatever_else_is_asked():
    whole, place = permuted(torch.arange(1000), 1000, 5), torch.tensor([999, 3, 500])
    assert permuted(place, 1000, 5).equal(whole[place])
    assert not permuted(torch.arange(1000), 1000, 6).equal(whole)


def test_numbers_come_to_all_places_equally_often():
    size, keys = 30, 3000
    drawn = torch.stack([permuted(torch.arange(size), size, key) for key in range(keys)])
    for place in (0, 1, 15, 29):
        assert chisquare(torch.bincount(drawn[:, place], minlength=size).numpy()).pvalue > 1e-3
    # Where two neighbours go is independent of each other: the distances of their numbers are those of random pairs.
    distance = (drawn[:, 1] - drawn[:, 0]).abs()
    expected = torch.tensor([2 * (size - each) for each in range(1, size)], dtype=torch.float64)
    found = torch.bincount(distance, minlength=size)[1:]
    assert chisquare(found.numpy(), (expected / expected.sum() * keys).numpy()).pvalue > 1e-3


def test_parts_of_a_large_permutation_hold_all_regions_equally():
    size = 1_000_003
    part = permuted(torch.arange(200_000, 300_000), size, 9)
    assert chisquare(torch.histc(part.double(), bins=100, min=0, max=size).numpy()).pvalue > 1e-3
    assert torch.corrcoef(torch.stack([torch.arange(100_000).double(), part.double()]))[0, 1].abs() < 0.02
