"""The cases that tests are cut to leave no pair of options out."""

from itertools import combinations, product

import pytest

from tests.pairwise import pairs_of, pairwise


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2, 4), (7, 6, 2, 2), (2, 2, 2, 2, 2)])
def test_each_two_values_meet(sizes: tuple[int, ...]):
    chosen = pairs_of(sizes)
    for first, second in combinations(range(len(sizes)), 2):
        expected = set(product(range(sizes[first]), range(sizes[second])))
        assert {(case[first], case[second]) for case in chosen} == expected
    assert len(set(chosen)) == len(chosen)
    if len(sizes) > 2:
        assert len(chosen) <= 2 * max(a * b for a, b in combinations(sizes, 2))


def test_values_stand_under_their_names():
    names, cases = pairwise(side=["head", "tail"], dim=[6, 50]).args
    assert names == ["side", "dim"]
    assert sorted(cases) == [["head", 6], ["head", 50], ["tail", 6], ["tail", 50]]
