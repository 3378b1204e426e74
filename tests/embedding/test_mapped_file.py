"""Rows that are held are in memory alone until they are let go, and nothing else takes them out."""

import errno
import mmap
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

import embedding.mapped_file
from embedding.mapped_file import MappedFile

ROWS, WIDTH = 6000, 25
ROW = 4 * WIDTH
FIRST, STOP = 1000, 3001
"""Rows that do not begin or end where a page does: 100 bytes each."""


@pytest.fixture
def made(tmp_path: Path) -> tuple[MappedFile, Tensor]:
    file = MappedFile.make(tmp_path, ROWS * ROW, ROW)
    rows = torch.frombuffer(file, dtype=torch.float32).view(ROWS, WIDTH)
    file.address = rows.data_ptr()
    rows.copy_(torch.arange(ROWS * WIDTH).view(ROWS, WIDTH))
    return file, rows


def in_the_file(file: MappedFile, row: int) -> Tensor:
    return torch.frombuffer(bytearray(os.pread(file.file, ROW, row * ROW)), dtype=torch.float32)


def test_held_rows_are_written_when_they_are_let_go(made):
    file, rows = made
    before = rows.clone()
    assert file.hold(FIRST, STOP) == (STOP - FIRST) * ROW
    assert rows.equal(before)
    rows.add_(1)
    assert in_the_file(file, 2000).equal(before[2000])  # the system has nothing to write
    assert in_the_file(file, 10).equal(before[10] + 1)
    assert in_the_file(file, FIRST).equal(before[FIRST] + 1)  # on a page that other rows have too
    file.let_go(FIRST, STOP)
    assert not file.held
    assert rows.equal(before + 1)
    for row in (FIRST, 2000, STOP - 1):
        assert in_the_file(file, row).equal(before[row] + 1)


@pytest.mark.parametrize(("first", "stop"), [(0, ROWS), (1500, 2000), (0, 2000), (2000, ROWS), (FIRST, STOP)])
def test_dropping_loses_no_held_row(made, first: int, stop: int):
    file, rows = made
    other = 4000, 5000
    before = rows.clone()
    file.hold(FIRST, STOP)
    file.hold(*other)
    file.hold(FIRST, STOP)  # once more changes nothing
    rows.mul_(2)
    file.drop(first, stop)
    assert rows.equal(2 * before)
    assert in_the_file(file, 2000).equal(before[2000])
    file.let_go(*other)
    file.let_go(FIRST, STOP)
    assert rows.equal(2 * before)
    assert in_the_file(file, 2000).equal(2 * before[2000])


@pytest.mark.parametrize(("first", "stop"), [(0, 0), (0, 20)])
def test_rows_without_a_page_of_their_own_let_go_of_no_others_that_begin_there(made, first: int, stop: int):
    file, rows = made
    before = rows.clone()
    file.hold(0, STOP)
    rows.add_(1)
    file.let_go(first, stop)  # as a rank does that has no row of a shard
    assert file.held
    assert in_the_file(file, 2000).equal(before[2000])
    assert rows.equal(before + 1)


def test_rows_smaller_than_a_page_stay_mapped(made):
    file, rows = made
    assert file.hold(5, 20) == 15 * ROW
    assert not file.held
    rows[7] = 3
    assert in_the_file(file, 7).eq(3).all()
    assert file.let_go(5, 20) == mmap.PAGESIZE


def test_a_file_that_cant_be_read_leaves_the_rows_as_they_were(made, monkeypatch):
    file, rows = made
    before = rows.clone()

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(embedding.mapped_file.os, "preadv", fails)
        with pytest.raises(OSError, match="the disk is gone"):
            file.hold(FIRST, STOP)
    assert not file.held
    assert rows.equal(before)
