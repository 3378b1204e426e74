"""Masks of known answers by Triton's kernel, against sets of Python and the whole of a graph's index."""

import pytest
import torch

import graph.answer_index
import kernels.gpu.known
import kernels.known
from graph.known import KnownTriples
from kernels.gpu.known import mask_known
from tests.kernels.arrays import integers, without_kernels
from tests.kernels.test_known import brute_force, index_of, random_answers
from tests.worlds import batch_of, families

# Chunks, positives a chunk, negatives.
SHAPES = [(0, 0, 5), (1, 0, 5), (3, 1, 0), (1, 1, 1), (2, 3, 1), (2, 2, 50)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(kernels.gpu.known, "_MOST", 16)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("high", [1, 12, 1 << 31])
def test_masks_are_those_of_sets(shape: tuple[int, int, int], high: int):
    chunks, positives, negatives = shape
    entities = integers(high, 25, seed=1)
    entities[0], entities[1] = high - 1, 0
    answers = random_answers(entities, seed=2)
    offset, answer = index_of(answers)
    query = integers(9, chunks * positives, seed=3) - 1
    entity = entities[integers(25, chunks, negatives, seed=4)]
    for offsets in (offset, offset.int()):
        found = mask_known(query, offsets, answer, entity)
        assert (found.shape, found.dtype) == ((chunks * positives, negatives), torch.bool)
        assert found.tolist() == brute_force(query, answers, entity)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9])
def test_each_place_of_a_list_of_any_length_is_found(length: int):
    answers: list[set[int]] = [{90, 91}, set(range(1, 2 * length, 2)), {1, 3}]
    entity = torch.arange(2 * length + 2)[None]
    query = torch.tensor([1])
    assert mask_known(query, *index_of(answers), entity).tolist() == brute_force(query, answers, entity)


def test_a_graph_asks_the_kernel(monkeypatch: pytest.MonkeyPatch):
    graph_, batch = families(), batch_of(families().train[:6], heads=2, chunk_size=2)
    known = KnownTriples.of(graph_.train, graph_.num_entities, graph_.num_relations)
    entity = integers(graph_.num_entities, 3, 9)
    plain = without_kernels(known.contains, batch, entity)
    assert plain.any()
    for module in (graph.answer_index, kernels.known):
        monkeypatch.setattr(module, "usable_on_gpu", lambda *_: True)
    used = []
    monkeypatch.setattr(kernels.gpu.known, "mask_known", lambda *given: used.append(given) or mask_known(*given))
    assert without_kernels(known.contains, batch, entity).equal(plain)
    assert len(used) == 2  # one for each side
