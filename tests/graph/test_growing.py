"""Numbers that grow at their end are the same in memory and in a file, and a full disk is told."""

import io

import numpy as np
import pytest

from graph import growing
from graph.errors import InputError
from graph.growing import Growing


@pytest.mark.parametrize("in_memory", [0, 50, 1 << 20])
def test_rows_are_the_same_wherever_they_are(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(growing, "_BLOCK_BYTES", 36)  # three rows
    rows = np.arange(30, dtype=np.int32).reshape(10, 3)
    kept = Growing(tmp_path, np.int32, 3)
    for first in range(0, 10, 4):
        kept.append(rows[first : first + 4])
    kept.write(2, -rows[2:4])
    expected = rows.copy()
    expected[2:4] *= -1
    assert len(kept) == 10 and kept.tensor().tolist() == expected.tolist()
    assert [(first, block.tolist()) for first, block in kept.blocks()] == [
        (first, expected[first : first + 3].tolist()) for first in (0, 3, 6, 9)
    ]
    assert not list(tmp_path.iterdir())  # the file has no name, so nothing stays


def test_rows_may_be_written_behind_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_IN_MEMORY", 20)
    kept = Growing(tmp_path, np.int64)
    kept.write(1, np.array([7]))
    kept.write(4, np.array([8]))
    assert kept.tensor().tolist() == [0, 7, 0, 0, 8]


def test_no_rows_are_an_empty_tensor():
    assert Growing(None, np.int32, 3).tensor().shape == (0, 3)


class _Full(io.BytesIO):
    def write(self, _):
        raise OSError(28, "No space left on device")


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_IN_MEMORY", 0)
    monkeypatch.setattr(growing.tempfile, "TemporaryFile", lambda dir: _Full())
    with pytest.raises(InputError, match=f"graph.cache: {tmp_path} can't take .* GB of triples: No space left on dev"):
        Growing(tmp_path, np.int32).append(np.arange(5))
    with pytest.raises(InputError, match=r"the temporary folder \(TMPDIR\) can't take"):
        Growing(None, np.int32).append(np.arange(5))
