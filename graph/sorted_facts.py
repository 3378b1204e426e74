"""Sorts facts into an `AnswerIndex`, a range of anchors at a time, so that memory does not grow with the facts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from graph.answer_index import AnswerIndex
from graph.growing import Growing
from kernels.shapes import INT32_MAX

_LARGEST = 1 << 63
_FACTS = 1 << 21
"""Facts that are sorted at a time; those of one bin of anchors may be more."""
_BINS = 1 << 20
"""Bins of anchors whose facts are counted, to find ranges that have as many facts each."""

Column = Int[Tensor, " T"]


def sorted_answers(
    anchor: Column, relation: Column, answer: Column, num_entities: int, num_relations: int, folder: Path | None
) -> AnswerIndex:
    """The index of facts, whose columns are on the CPU. Facts that are repeated count once.

    A fact is one int64 key, so ids need not be ranked first. The keys of a range of anchors count from the first of
    them, because entities^2 x relations may reach 2^63. If there are several ranges, each fact's key is first written
    behind those of its range, and then the ranges are sorted in turn.

    Args:
        folder: for temporary files, see `Growing`; the index is mapped from such if it is large.
    """
    types = _narrowest(num_entities * num_relations), _narrowest(len(anchor)), np.int32
    queries, offsets, answers = (Growing(folder, dtype) for dtype in types)
    columns = anchor.numpy(), relation.numpy(), answer.numpy()
    for first, key in _ranges(columns, num_entities, num_relations, folder):
        key.sort()
        is_new = np.ones(len(key), dtype=np.bool_)
        np.not_equal(key[1:], key[:-1], out=is_new[1:])
        if not is_new.all():
            key = key[is_new]
        query = key // num_entities
        key -= query * num_entities
        begin = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
        queries.append(query[begin] + first * num_relations)
        offsets.append(begin + len(answers))
        answers.append(key)
    offsets.append(np.array([len(answers)]))
    return AnswerIndex(queries.tensor(), offsets.tensor(), answers.tensor(), num_relations)


def _narrowest(largest: int) -> type[np.integer]:
    return np.int32 if largest <= INT32_MAX else np.int64


Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ranges(
    columns: Columns, num_entities: int, num_relations: int, folder: Path | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Ranges of anchors in ascending order: the first anchor of each, and the keys of its facts, in any order."""
    most_anchors = _LARGEST // max(num_entities * num_relations, 1)
    first, counts = _cut(columns[0], num_entities, most_anchors)
    if not len(counts):
        return
    if len(counts) == 1:
        yield int(first[0]), _keys(columns, first[0], num_entities, num_relations)
        return
    keys, begin = Growing(folder, np.int64), counts.cumsum() - counts
    place = begin.copy()
    for start in range(0, len(columns[0]), _FACTS):
        anchor, relation, answer = (column[start : start + _FACTS] for column in columns)
        number = (np.searchsorted(first, anchor, side="right") - 1).astype(
            np.uint16 if len(first) < 1 << 16 else np.int64
        )
        order = number.argsort(kind="stable")
        key = _keys((anchor, relation, answer), first[number], num_entities, num_relations)[order]
        of_block = np.bincount(number, minlength=len(first))
        stop = of_block.cumsum()
        for each in np.flatnonzero(of_block):
            keys.write(int(place[each]), key[stop[each] - of_block[each] : stop[each]])
        place += of_block
    for each in range(len(first)):
        yield int(first[each]), keys.read(int(begin[each]), int(counts[each]))


def _cut(anchor: np.ndarray, num_entities: int, most_anchors: int) -> tuple[np.ndarray, np.ndarray]:
    """The first anchors of ranges that have facts, none with more than `most_anchors` anchors, and their facts."""
    if len(anchor) <= _FACTS and num_entities <= most_anchors:
        return np.zeros(min(len(anchor), 1), dtype=np.int64), np.array([len(anchor)][: len(anchor)])
    width = min(-(-num_entities // _BINS), most_anchors)  # of a bin
    total = np.zeros(-(-num_entities // width), dtype=np.int64)
    for start in range(0, len(anchor), _FACTS):
        total += np.bincount(anchor[start : start + _FACTS] // width, minlength=len(total))
    np.cumsum(total, out=total)  # the number of facts of all bins up to each one
    first, counts, before = [], [], 0
    while before < len(anchor):
        bin = int(np.searchsorted(total, before, side="right"))
        stop = int(np.searchsorted(total, before + _FACTS, side="right"))
        stop = min(max(stop, bin + 1), bin + most_anchors // width, len(total))
        first.append(bin * width)
        counts.append(int(total[stop - 1]) - before)
        before = int(total[stop - 1])
    return np.array(first, dtype=np.int64), np.array(counts, dtype=np.int64)


def _keys(columns: Columns, first: np.ndarray | np.int64, num_entities: int, num_relations: int) -> np.ndarray:
    """((anchor - first) * num_relations + relation) * num_entities + answer of each fact."""
    anchor, relation, answer = columns
    key = anchor.astype(np.int64)
    key -= first
    key *= num_relations
    key += relation
    key *= num_entities
    key += answer
    return key
