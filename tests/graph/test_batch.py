"""A batch cut for ranks: together the parts are the whole, with the same random numbers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from graph.batch import Batch
from graph.sampling import PositiveOrder
from tests.worlds import batch_of, in_order
from trainer.runtime import Runtime


def whole_batch(head_chunks: int, *, chunks: int = 5, chunk_size: int = 3) -> Batch:
    rows = torch.arange(chunks * chunk_size)
    weight = torch.rand(len(rows), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(
        head=rows,
        relation=rows + 100,
        tail=rows + 200,
        weight=weight,
        chunk=torch.tensor([4, 9, 0, 7, 2])[:chunks],
        head_chunks=head_chunks,
        chunk_size=chunk_size,
        seed=3,
        epoch=2,
        global_weight=float(weight.sum()),
    )


def shares(batch: Batch, world_size: int) -> list[Batch]:
    return [Runtime(rank, world_size, torch.device("cpu")).share(batch) for rank in range(world_size)]


def sides(batch: Batch) -> dict[int, str]:
    return {row: "head" if place < batch.head_rows else "tail" for place, row in enumerate(batch.head.tolist())}


@pytest.mark.parametrize("head_chunks", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_the_ranks_parts_are_the_batch(world_size: int, head_chunks: int):
    batch = whole_batch(head_chunks)
    parts = shares(batch, world_size)
    for name in ("head", "relation", "tail", "weight", "chunk"):
        size = 1 if name == "chunk" else 3
        assert in_order([(getattr(part, name), part.head_chunks * size) for part in parts]).equal(getattr(batch, name))
    sizes = [len(part.chunk) for part in parts]
    assert max(sizes) - min(sizes) <= 2
    assert {row: side for part in parts for row, side in sides(part).items()} == sides(batch)
    assert sum(part.head_chunks for part in parts) == head_chunks
    assert all(len(part.head) == len(part.chunk) * 3 for part in parts)
    assert {part.global_weight for part in parts} == {batch.global_weight}


@pytest.mark.parametrize("world_size", [2, 4])
def test_with_both_sides_a_rank_has_those_of_the_same_positives(world_size: int):
    triples = torch.arange(8 * 3).view(8, 3)
    batch = PositiveOrder(
        triples, torch.full((24,), 0.5, dtype=torch.float64), batch_size=8, chunk_size=2, sides="both", seed=0
    ).batch(0)
    for part in shares(batch, world_size):
        assert part.head[: part.head_rows].equal(part.head[part.head_rows :])


@pytest.mark.parametrize("heads", range(16))
@pytest.mark.parametrize("world_size", [2, 3, 5, 10])
def test_parts_are_nearly_equal_however_the_sides_are_rounded(world_size: int, heads: int):
    batch = batch_of(torch.zeros((15, 3), dtype=torch.int64), heads=heads)
    parts = shares(batch, world_size)
    assert torch.cat([part.chunk for part in parts]).sort().values.equal(batch.chunk)
    assert batch.chunks_of_parts(world_size) == [len(part.chunk) for part in parts]
    assert max(len(part.chunk) for part in parts) <= -(-15 // world_size) + 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda batch: batch.integers("pool", 6, 1000),
        lambda batch: batch.uniform("draw", 6),
        lambda batch: batch.uniform_per_positive("draw", 6),
    ],
)
@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_random_numbers_do_not_depend_on_the_ranks(world_size: int, draw: Callable[[Batch], Tensor]):
    batch = whole_batch(2)
    numbers = draw(batch)
    parts = shares(batch, world_size)
    size = len(numbers) // len(batch.chunk)
    assert in_order([(draw(part), part.head_chunks * size) for part in parts]).equal(numbers)
    assert len(numbers.unique()) > 0.8 * numbers.numel()  # chunks and slots have their own
    for other in (replace(batch, seed=4), replace(batch, epoch=3), replace(batch, chunk=batch.chunk + 10)):
        assert not (draw(other) == numbers).any(1).all()


def test_random_numbers_differ_by_purpose():
    batch = whole_batch(2)
    assert not batch.uniform("pool", 6).equal(batch.uniform("draw", 6))
    assert not batch.integers("pool", 6, 1000).equal(batch.integers("draw", 6, 1000))


def test_shapes_and_ranges_of_random_numbers():
    batch = whole_batch(2)
    integers = batch.integers("pool", 500, 7)
    assert integers.shape == (5, 500)
    assert integers.unique().tolist() == list(range(7))
    assert batch.uniform("draw", 4).shape == (5, 4)
    assert batch.uniform_per_positive("draw", 4).shape == (15, 4)
    # One more number a chunk leaves the first ones as they were.
    assert batch.integers("pool", 3, 7).equal(integers[:, :3])
    nothing = batch.chunks(2, 2)
    assert nothing.integers("pool", 4, 7).shape == (0, 4)
    assert nothing.uniform_per_positive("draw", 4).shape == (0, 4)


def test_anchor_is_kept_and_target_is_replaced():
    batch = whole_batch(2)
    for row, (anchor, target) in enumerate(zip(batch.anchor.tolist(), batch.target.tolist(), strict=True)):
        assert (anchor, target) == ((row + 200, row) if row < 6 else (row, row + 200))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_of_the_mean_sum_to_the_weighted_mean(world_size: int):
    batch = whole_batch(2)
    value = torch.randn(15, generator=torch.Generator().manual_seed(2))
    expected = sum(w * v for w, v in zip(batch.weight.tolist(), value.tolist(), strict=True)) / sum(
        batch.weight.tolist()
    )
    total = sum(float(part.share_of_mean(value[part.head])) for part in shares(batch, world_size))
    assert total == pytest.approx(expected, rel=1e-12)


def test_filling_does_not_change_the_mean():
    train = torch.stack([torch.arange(7), torch.zeros(7, dtype=torch.int64), torch.arange(7)], dim=1)
    probability = torch.full((1,), 0.5, dtype=torch.float64)
    batch = PositiveOrder(train, probability, batch_size=12, chunk_size=4, sides="one", seed=0).batch(0)
    assert (batch.weight == 0).any()
    value = batch.head.double().exp()
    assert float(batch.share_of_mean(value)) == pytest.approx(float(torch.arange(7).double().exp().mean()), rel=1e-12)
