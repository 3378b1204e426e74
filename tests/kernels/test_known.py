"""Known answers against sets of Python."""

import pytest
import torch
from torch import Tensor

from kernels.known import all_answers, mask_known
from tests.kernels.arrays import integers, on_threads

# Chunks, positives a chunk, negatives: pools that are shared go by another way than own ones.
SHAPES = [(0, 0, 5), (1, 0, 5), (3, 1, 0), (1, 1, 1), (40, 1, 7), (2, 3, 1), (3, 4, 50), (1, 6, 300)]


def index_of(answers: list[set[int]]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(sorted(each), dtype=torch.int64) for each in answers]
    count = torch.tensor([0, *map(len, rows)])
    return count.cumsum(0), torch.cat([torch.empty(0, dtype=torch.int64), *rows]).int()


def brute_force(query: Tensor, answers: list[set[int]], entity: Tensor) -> list[list[bool]]:
    each = len(query) // max(len(entity), 1)
    return [[q >= 0 and e in answers[q] for e in entity[row // each].tolist()] for row, q in enumerate(query.tolist())]


def random_answers(entities: Tensor, seed: int) -> list[set[int]]:
    """Of eight queries; the last has none, the first has all."""
    kept = integers(3, 8, len(entities), seed=seed) == 0
    kept[0], kept[7] = True, False
    return [set(entities[row].tolist()) for row in kept]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("high", [1, 12, 1000, 1 << 31])
def test_masks_are_those_of_sets(shape: tuple[int, int, int], high: int):
    chunks, positives, negatives = shape
    entities = integers(high, 25, seed=1)
    entities[0], entities[1] = high - 1, 0
    answers = random_answers(entities, seed=2)
    offset, answer = index_of(answers)
    query = integers(9, chunks * positives, seed=3) - 1
    # From few entities, so that a pool has many of them more than once; and some that nobody knows.
    drawn = entities[integers(25, chunks, negatives, seed=4)]
    entity = torch.where(integers(4, chunks, negatives, seed=5) > 0, drawn, integers(high, chunks, negatives, seed=6))
    for offsets in (offset, offset.int()):
        found = mask_known(query, offsets, answer, entity)
        assert found.shape == (chunks * positives, negatives)
        assert found.tolist() == brute_force(query, answers, entity)


def test_entities_that_share_a_slot_of_the_map_are_told_apart():
    # Multiples of large powers of two: hardly any bits to tell them by.
    entity = (torch.arange(64) << 25)[None]
    answers = [set((torch.arange(0, 64, 3) << 25).tolist()), {1, 2, 3}]
    query = torch.tensor([0, 1, 0, -1])
    assert mask_known(query, *index_of(answers), entity).tolist() == brute_force(query, answers, entity)


@pytest.mark.parametrize("positives", [1, 3])
def test_nothing_is_known_of_an_empty_graph(positives: int):
    none = torch.empty(0, dtype=torch.int32)
    query = torch.full((2 * positives,), -1)
    assert not mask_known(query, torch.zeros(1, dtype=torch.int64), none, integers(5, 2, 4)).any()
    index, answer = all_answers(query, torch.zeros(1, dtype=torch.int64), none)
    assert (len(index), len(answer)) == (0, 0)


@pytest.mark.parametrize("positives", [1, 4])
def test_masks_do_not_depend_on_the_number_of_threads(positives: int):
    offset, answer = index_of(random_answers(torch.arange(25), seed=2))
    query, entity = integers(9, 200 * positives, seed=3) - 1, integers(25, 200, 9, seed=4)
    one, two = (on_threads(number, mask_known, query, offset, answer, entity) for number in (1, 2))
    assert one.equal(two)


def test_all_answers_are_listed_query_by_query():
    answers = random_answers(integers(1 << 31, 25, seed=1), seed=2)
    query = torch.tensor([3, -1, 7, 0, 3, 1])
    index, answer = all_answers(query, *index_of(answers))
    expected = [(row, each) for row, q in enumerate(query.tolist()) if q >= 0 for each in sorted(answers[q])]
    assert list(zip(index.tolist(), answer.tolist(), strict=True)) == expected
    for empty in (query[:0], torch.tensor([-1, 7])):
        assert len(all_answers(empty, *index_of(answers))[0]) == 0
