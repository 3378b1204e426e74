"""Sorts facts into an `AnswerIndex`, in place and a range of anchors at a time, so that little memory is taken."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from graph.answer_index import AnswerIndex
from kernels.shapes import INT32_MAX

_LARGEST = 1 << 63
_FEWEST_FACTS = 1 << 22
"""Facts that are sorted at a time: this many, or a sixteenth of all if that is more; those of one anchor at least."""
_PASSES = 16

Column = Int[Tensor, " T"]


def sorted_answers(
    anchor: Column, relation: Column, answer: Column, num_entities: int, num_relations: int
) -> AnswerIndex:
    """The index of facts, whose columns are on the CPU. Facts that are repeated count once.

    A fact is one int64 key, so ids need not be ranked first. Where entities^2 x relations reach 2^63, as with 100
    million entities, the keys of a range of anchors count from the first of them.
    """
    width = max(num_entities * num_relations, 1)
    columns = anchor.numpy(), relation.numpy(), answer.numpy()
    found = np.empty(len(anchor), dtype=np.int32)
    queries, counts, known = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int32)], 0
    for first, stop in _ranges(columns[0], num_entities, _LARGEST // width):
        key = _keys(columns, first, stop, num_entities, num_relations)
        key.sort()
        is_new = np.empty(len(key), dtype=np.bool_)
        is_new[0] = True
        np.not_equal(key[1:], key[:-1], out=is_new[1:])
        if not is_new.all():
            key = key[is_new]
        query = key // num_entities
        key -= query * num_entities
        found[known : known + len(key)] = key
        known += len(key)
        begin = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
        queries.append(query[begin] + first * num_relations)
        counts.append(np.diff(begin, append=len(query)).astype(np.int32))
    count = np.concatenate(counts)
    offset = np.zeros(len(count) + 1, dtype=np.int32 if known <= INT32_MAX else np.int64)
    np.cumsum(count, out=offset[1:])
    if known < len(found):
        found = found[:known].copy()
    query = torch.from_numpy(np.concatenate(queries))
    return AnswerIndex(query, torch.from_numpy(offset), torch.from_numpy(found), num_relations)


def _ranges(anchor: np.ndarray, num_entities: int, most_anchors: int) -> Iterator[tuple[int, int]]:
    """Ascending ranges [first, stop) of at most `most_anchors` entities; each holds facts, together they hold all."""
    few = max(_FEWEST_FACTS, len(anchor) // _PASSES)
    if not len(anchor):
        return
    if len(anchor) <= few and num_entities <= most_anchors:
        yield 0, num_entities
        return
    total = np.zeros(num_entities, dtype=np.int64)
    for start in range(0, len(anchor), few):
        total += np.bincount(anchor[start : start + few], minlength=num_entities)
    np.cumsum(total, out=total)  # the number of facts of all anchors up to each one
    before = 0
    while before < len(anchor):
        first = int(np.searchsorted(total, before, side="right"))
        stop = int(np.searchsorted(total, before + few, side="right"))
        stop = min(max(stop, first + 1), first + most_anchors, num_entities)
        yield first, stop
        before = int(total[stop - 1])


def _keys(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray], first: int, stop: int, num_entities: int, num_relations: int
) -> np.ndarray:
    """((anchor - first) * num_relations + relation) * num_entities + answer of the facts of a range of anchors."""
    anchor, relation, answer = columns
    if (first, stop) != (0, num_entities):
        chosen = np.flatnonzero((anchor >= first) & (anchor < stop))
        anchor, relation, answer = anchor[chosen], relation[chosen], answer[chosen]
    key = anchor.astype(np.int64)
    key -= first
    key *= num_relations
    key += relation
    key *= num_entities
    key += answer
    return key
