"""Detects a header: a first line that names the columns, such as `source metaedge target`, and is no triple."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from graph.column_names import are_usual

_BLOCK = 1 << 20
"""Triples that are compared at a time."""


def header_splits(splits: Sequence[Int[Tensor, "_ 3"]], first_names: Sequence[Sequence[str]]) -> list[int]:
    """The numbers of the splits whose first line looks like a header.

    A first line looks like a header if it is the same in all files, or if its three names occur nowhere else. The
    usual header words (`graph.column_names`) are always recognised, even if a relation has such a name.

    Args:
        splits: the triples of each file.
        first_names: the three names on the first line of each file.
    """
    if all(len(triples) == 1 for triples in splits):
        return []  # a header would leave no triples
    firsts = [tuple(triples[0].tolist()) for triples in splits]
    if len(firsts) > 1 and len(set(firsts)) == 1:
        return list(range(len(firsts)))
    return [
        number
        for number, first in enumerate(firsts)
        if are_usual(first_names[number]) or _occurs_nowhere_else(first, firsts.count(first), splits)
    ]


def _occurs_nowhere_else(first: tuple[int, int, int], alike: int, splits: Sequence[Int[Tensor, "_ 3"]]) -> bool:
    head, relation, tail = first
    if sum(_count(triples, 1, relation) for triples in splits) > alike:
        return False
    for entity in {head, tail}:
        count = sum(_count(triples, side, entity) for triples in splits for side in (0, 2))
        if count > alike * ((head == entity) + (tail == entity)):
            return False
    return True


def _count(triples: Int[Tensor, "_ 3"], column: int, number: int) -> int:
    """How often a column has a number."""
    return sum(int((block[:, column] == number).sum()) for block in triples.split(_BLOCK))
