"""A file that is written takes the place of the old one only when it is whole, and leaves nothing when it is not."""

import os
import subprocess
import sys

import pytest

from graph.whole_file import whole_file

_KILLED = """
import os, signal, sys
from pathlib import Path
from graph.whole_file import whole_file
with whole_file(Path(sys.argv[1])) as opened:
    opened.write(b"half")
    opened.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["without a name", "with a name"])
def file(request, tmp_path, monkeypatch):
    if request.param == "with a name":
        monkeypatch.delattr(os, "O_TMPFILE")
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def test_it_takes_the_place_of_the_old_one_at_the_end(file):
    with whole_file(file) as opened:
        opened.write(b"new")
        opened.flush()
        assert file.read_bytes() == b"old"
        opened.seek(0)
        assert opened.read() == b"new"
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]
    beside = file.with_name("beside")
    beside.touch()
    assert file.stat().st_mode == beside.stat().st_mode


def test_an_error_leaves_the_old_one_and_nothing_else(file):
    def fails():
        with whole_file(file) as opened:
            opened.write(b"new")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fails()
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(file)], check=False)
    assert ended.returncode < 0
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "gone" / "file"):
        pass
