"""Rows in files are rows as in memory; memory holds those of a few shards; a disk that is full is an error."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from embedding.initial import InitialValues
from embedding.storage import DiskStorage
from embedding.table import EmbeddingTable
from graph.errors import InputError
from graph.partition import EntityPlacement
from graph.shards import DiskPlan, Ranges, Resident
from tests.ranks import run_on_ranks

SHARDS = 8


def table_of(folder: Path | None, entities: int = 4000, width: int = 30) -> EmbeddingTable:
    plan = None if folder is None else DiskPlan(SHARDS, 2, str(folder))
    placement = EntityPlacement.from_order(torch.arange(entities).flip(0), plan)
    return EmbeddingTable(
        "t",
        placement,
        width,
        rank=0,
        world_size=1,
        initial=InitialValues(False, torch.ones(width, dtype=torch.float64)),
        seed=7,
        dtype=torch.float32,
        device=torch.device("cpu"),
        storage=None if folder is None else DiskStorage(placement, 0, 1),
    )


def state_of(shards: tuple[int, ...], following: tuple[int, ...]) -> Resident:
    none = torch.zeros(0, dtype=torch.int64)
    return Resident(shards, following, Ranges.of(none, none), none)


def test_rows_are_those_of_a_table_in_memory_whichever_shards_are_in_memory(tmp_path):
    table, plain = table_of(tmp_path), table_of(None)
    storage = table.storage
    assert table.weight.equal(plain.weight)
    for state in (state_of((0, 1), (1, 2)), state_of((1, 2), (2, 5)), state_of((2, 5), (2, 5))):
        storage.enter(state)
        storage.has_changed()
        for each in (table, plain):
            each.weight.mul_(1.5)  # also rows that are not in memory
    storage.wait()
    assert table.weight.equal(plain.weight)
    assert storage.bytes_read == 4 * table.weight.nbytes / SHARDS
    assert storage.bytes_written >= 2 * table.weight.nbytes / SHARDS
    blocks = [rows.clone() for _, rows in table.blocks(300)]
    assert torch.cat(blocks).equal(plain.weight)
    assert not list(tmp_path.iterdir())  # nothing is left if the process dies now


def _resident_megabytes(rank: int, world_size: int, folder: Path) -> tuple[float, float]:
    def now() -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1000

    before = now()
    table = table_of(folder, entities=400_000, width=100)  # 160 MB, 20 a shard
    most = now()
    for shard in range(SHARDS - 1):
        state = state_of((shard, shard + 1), (shard + 1, min(shard + 2, SHARDS - 1)))
        table.storage.enter(state)
        for each in state.shards:
            first, stop = table.storage.shards[each]
            table.weight[first:stop].add_(1)
        most = max(most, now())
    return before, most


def test_memory_is_bounded_by_the_shards_of_a_state(tmp_path):
    [(before, most)] = run_on_ranks(1, _resident_megabytes, tmp_path)
    assert most - before < 4 * 20 + 10 + 20  # two that are used, one that goes; ids and initial values


def test_a_disk_that_is_full_is_an_error_that_names_the_folder(tmp_path):
    storage = table_of(tmp_path).storage
    with pytest.raises(InputError, match=r"placement.folder: .* can't take 1e\+07 GB of rows: "):
        storage.rows(10**13, 250, torch.float32)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cant_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"placement.folder: .*file/table can't be made: Not a directory"):
        table_of(tmp_path / "file" / "table")


def test_a_table_needs_a_folder():
    placement = EntityPlacement.from_order(torch.arange(4), DiskPlan(2, 2, None))
    with pytest.raises(InputError, match=r"placement\.folder must name a folder for the table, got null"):
        DiskStorage(replace(placement), 0, 1)


def _is_in_memory(storage: DiskStorage, shard: int, rows: torch.Tensor) -> bool:
    """Whether a change of a shard's rows stays out of the file until the shard leaves."""
    file, row = storage._file(rows), storage.shards[shard][0] + 100
    before = os.pread(file.file, 4, row * file.row_bytes)
    rows[row, 0] += 1
    return os.pread(file.file, 4, row * file.row_bytes) == before


def test_a_shard_that_comes_back_at_once_stays_in_memory(tmp_path):
    table = table_of(tmp_path)
    for state in (state_of((0, 1), (0, 2)), state_of((0, 2), (1, 2)), state_of((1, 2), (1, 2))):
        table.storage.enter(state)
        assert all(_is_in_memory(table.storage, shard, table.weight) for shard in state.shards)


def test_rows_that_are_made_when_a_state_is_in_memory_are_in_memory_too(tmp_path):
    table = table_of(tmp_path)
    table.storage.enter(state_of((0, 1), (1, 2)))
    state_of_optimiser = table.new_rows(30)
    table.storage.enter(state_of((0, 1), (1, 2)))
    assert _is_in_memory(table.storage, 1, state_of_optimiser)
    table.storage.enter(state_of((2, 3), (2, 3)))
    table.storage.wait()
    assert not _is_in_memory(table.storage, 1, state_of_optimiser)
