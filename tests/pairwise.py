"""Fewer cases than all combinations of options, in which each two values of different options still meet.

Most faults need one or two options at once (Kuhn, Wallace and Gallo, Software fault interactions and implications for
software testing, IEEE TSE 30(6), 2004), and the product of four options takes four times as many cases or more.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest


def pairwise(**options: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrises a test by its options' values, as `pytest.mark.parametrize` of each would, but by pairs."""
    chosen = [
        [values[place] for place, values in zip(places, options.values(), strict=True)]
        for places in pairs_of([len(values) for values in options.values()])
    ]
    return pytest.mark.parametrize(list(options), chosen, ids=["-".join(map(_name, case)) for case in chosen])


def pairs_of(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Some of the combinations of so many values each, such that each two values of two options are in one of them.

    Greedy and the same each time: the next is one that has most pairs that none before had, of those the one whose
    values occurred least, of those the first.
    """
    candidates = {each: set(combinations(enumerate(each), 2)) for each in product(*map(range, sizes))}
    chosen, used = [], Counter[tuple[int, int]]()
    while any(candidates.values()):
        best = max(candidates, key=lambda each: (len(candidates[each]), -sum(used[value] for value in enumerate(each))))
        chosen.append(best)
        used.update(enumerate(best))
        met = candidates.pop(best)
        for pairs in candidates.values():
            pairs -= met
    return chosen


def _name(value: Any) -> str:
    plain = type(value).__str__ is object.__str__
    return str(getattr(value, "name", value) if plain else value)
