"""Numbers of the host in the memory of a GPU, and the batch in fixed memory that uses them."""

import math

import pytest
import torch

from graph.batch import Batch
from graph.repeated_batch import RepeatedBatch
from graph.step_numbers import StepNumbers
from tests.pretended_gpu.device import GPU
from tests.pretended_gpu.pretending import pretended_gpu


def test_numbers_are_those_of_the_step_that_begins_and_are_sent_when_they_change():
    with pretended_gpu() as counts:
        numbers, rate, count = StepNumbers(GPU), [math.pi], [-(1 << 63)]
        numbers.begin()
        asked = numbers.number(lambda: rate[0]), numbers.integer(lambda: count[0])
        assert [each.tolist() for each in asked] == [math.pi, -(1 << 63)]
        rate[0], count[0] = -math.inf, 7
        counts.clear()
        numbers.begin()
        assert counts.kernels.total() == 1 and not counts.syncs
        assert [each.tolist() for each in asked] == [-math.inf, 7]
        counts.clear()
        numbers.begin()
        again = numbers.number(lambda: rate[0])
        assert not counts.kernels
        assert again.tolist() == -math.inf
        rate[0] = 0.5  # what was asked for last counts
        numbers.begin()
        assert asked[0].tolist() == again.tolist() == 0.5


def batch(first: int, head_chunks: int, epoch: int) -> Batch:
    number = torch.arange(first, first + 8, device="cuda")
    sides = {"head_chunks": head_chunks, "chunk_size": 2, "seed": 3, "epoch": epoch, "step": first}
    weight = torch.ones(8, dtype=torch.float64, device="cuda")
    return Batch(number, number % 3, number * 7, weight, number[:4], global_weight=8.0, **sides)


@pytest.mark.parametrize("fixed_sides", [False, True])
def test_a_repeated_batch_has_the_contents_of_the_batch_that_fills_it(fixed_sides: bool):
    with pretended_gpu():
        numbers = StepNumbers(GPU)
        one, other = batch(0, 1, epoch=0), batch(100, 1 if fixed_sides else 3, epoch=1)
        repeated = RepeatedBatch.like(one, numbers, fixed_sides=fixed_sides)
        for given in (one, other, one):
            repeated.fill(given)
            numbers.begin()
            assert (repeated.epoch, repeated.step) == (given.epoch, given.step)
            for name in ("head", "relation", "tail", "chunk", "weight", "anchor", "target"):
                assert getattr(repeated, name).tolist() == getattr(given, name).tolist(), name
            for purpose in ("negatives", "candidates"):
                assert repeated.integers(purpose, 5, 99).tolist() == given.integers(purpose, 5, 99).tolist()
            heads = repeated.heads_for_kernels
            assert (heads if isinstance(heads, int) else heads.tolist()) == given.head_rows
        if fixed_sides:
            assert repeated.head_rows == one.head_rows
        else:
            with pytest.raises(RuntimeError, match="a step that is repeated can't slice its batch by side"):
                _ = repeated.head_rows
