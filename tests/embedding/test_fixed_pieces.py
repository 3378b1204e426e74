"""Look-ups in pieces of a fixed size: equal to those of one rank, and what happens to rows that do not fit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from embedding.fixed_pieces import ChunkShare, slots_of_an_owner
from tests.embedding.test_table import assert_equal_to_one_rank, table_of, weights
from tests.ranks import run_on_ranks

WORLDS = [(entities, placed) for entities in (9, 2, 1) for placed in (0, None)]  # 2 of 3 ranks own a row, or 1
CHUNKS = (2, 1, 3)
"""Of three ranks: look-ups are in proportion."""


def asked_by(rank: int, entities: int, seed: int) -> Tensor:
    """Ids with repetitions, 4 for each chunk of the rank."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(entities, (sum(CHUNKS), 4), generator=generator).split(CHUNKS)[rank]


def used(rank: int, world_size: int, entities: int, placed: int | None) -> dict[str, Any]:
    """What a rank finds in a table, as `test_table.used` tells it."""
    table = table_of(entities, rank, world_size, placed=placed)
    table.pieces.share = ChunkShare(CHUNKS[rank], max(CHUNKS[:world_size]))
    found = []
    for seed in (0, 1):
        ids = asked_by(rank, entities, seed)
        rows = table(ids)
        (rows * weights(ids) * (rank + 1)).sum().backward()
        found.append(rows.detach())
    with torch.no_grad():
        table(asked_by(rank, entities, 2))
    assert table.pieces.take_missed() is not None
    assert table.pieces.take_missed() is None
    gradient = table.take_gradient()
    dense = torch.zeros_like(table.weight.detach()).index_copy(0, gradient.row, gradient.value)
    rows = table.gather_all(table.weight.detach())
    with_gradient = table.entity[gradient.row].tolist()
    return {"found": found, "gradient": table.gather_all(dense), "rows": rows, "with gradient": with_gradient}


def used_worlds(rank: int, world_size: int) -> list[dict[str, Any]]:
    return [used(rank, world_size, *world) for world in WORLDS]


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_table_of_several_ranks_equals_one_on_one_rank(world_size: int) -> None:
    found = run_on_ranks(world_size, used_worlds)
    for world, results in zip(WORLDS, zip(*found, strict=True), strict=True):
        assert_equal_to_one_rank(*world, list(results), asked=asked_by)
        asked = [asked_by(rank, world[0], seed).flatten() for rank in range(world_size) for seed in (0, 1)]
        # Padding reaches no row: lazy optimisers would move it.
        reached = sorted(entity for each in results for entity in each["with gradient"])
        assert reached == sorted(set(torch.cat(asked).tolist()))


def missed_on_ranks(rank: int, world_size: int) -> list[tuple[bool, bool]]:
    """Rank 0 asks for many rows, rank 1 for one, again and again: with twice the slots after each failure."""
    table = table_of(64, rank, world_size)
    table.pieces.factor = 0.05
    table.pieces.share = ChunkShare(1, 1)
    ids = torch.arange(32) if rank == 0 else torch.zeros(32, dtype=torch.int64)
    expected = table_of(64)(ids)
    seen = []
    for _ in range(4):
        rows = table(ids)
        missed = table.pieces.take_missed()
        assert missed is not None
        seen.append((bool(missed), rows.equal(expected)))
        table.widen()
    assert len(table.take_gradient().row) == 0  # the look-ups are forgotten
    return seen


def test_rows_that_do_not_fit_are_noticed_and_fit_with_more_slots() -> None:
    first, second = run_on_ranks(2, missed_on_ranks)
    assert second == [(False, True)] * 4
    assert first == [(True, False)] * 3 + [(False, True)]


def odd_look_up(rank: int, world_size: int) -> str:
    table = table_of(9, rank, world_size)
    table.pieces.share = ChunkShare(2, 3)
    with pytest.raises(AssertionError) as raised:
        table(torch.tensor([1, 2, 3]))
    return str(raised.value)


def test_a_look_up_that_is_not_in_proportion_to_chunks_is_refused() -> None:
    assert (
        run_on_ranks(2, odd_look_up) == ["3 rows are looked up for 2 chunks, which is not the same number for each"] * 2
    )


@pytest.mark.parametrize(("ranks", "wanted"), [(2, 200), (8, 1536), (8, 20_000), (64, 3000)])
def test_random_placement_fills_slots_with_room_to_spare(ranks: int, wanted: int) -> None:
    entities = 50_000
    block = -(-entities // ranks)
    slots = slots_of_an_owner(wanted, entities, block)
    generator = torch.Generator().manual_seed(0)
    most = max(
        int((torch.randperm(entities, generator=generator)[:wanted] // block).bincount().max()) for _ in range(50)
    )
    mean = wanted * block / entities
    # The largest of 50 x R pieces is within 5 standard deviations; there is room for 8 at least.
    assert most < mean + 5 * mean**0.5 + 3
    assert mean + 8 * mean**0.5 < slots < mean + 9 * mean**0.5 + 30


def test_there_are_never_more_slots_than_can_be_filled() -> None:
    assert slots_of_an_owner(10, 1000, 500) == 10
    assert slots_of_an_owner(5000, 40, 20) == 20
    assert slots_of_an_owner(1000, 100_000, 50_000, factor=1e9) == 1000
    assert slots_of_an_owner(5, 1, 1) == 1
