import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from graph.errors import InputError
from graph.folder import folder_at, names_in
from graph.reading import read_folder


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("~no_such_user/x", "begins with a user whose home folder is not known"),
        (["a"], "must name a folder, got ['a']"),
        (True, "must name a folder, got True"),
    ],
)
def test_what_is_no_path_is_refused_by_the_option_that_says_it(value, what):
    with pytest.raises(InputError) as caught:
        folder_at(value, "graph.path")
    assert str(caught.value).startswith("graph.path") and what in str(caught.value)


def test_a_number_is_a_path_and_a_tilde_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert folder_at(2024, "graph.path") == Path("2024")
    assert folder_at("~/x", "graph.path") == Path("/home/anna/x")


@pytest.mark.parametrize(("name", "reason"), [("a" * 5000, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_path_that_cannot_be_is_refused_in_one_short_line(name, reason):
    with pytest.raises(InputError, match=f"cannot be read: {reason}$") as caught:
        names_in(Path(name), "graph.path")
    assert len(str(caught.value)) < 300


_AS_NOBODY = """
import os, sys
os.setgid(65534)
os.setuid(65534)
from pathlib import Path
from graph.errors import InputError
from graph.folder import names_in
try:
    names_in(Path(sys.argv[1]), "graph.path")
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("below", [".", "triples"])
def test_a_folder_without_permission_is_named(below):
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users anyway
        Path(name).chmod(0o755)
        closed = Path(name) / "closed"
        (closed / "triples").mkdir(parents=True)
        closed.chmod(0)
        if os.geteuid() == 0:  # root may read everything
            command = [sys.executable, "-c", _AS_NOBODY, str(closed / below)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        else:
            with pytest.raises(InputError) as caught:
                names_in(closed / below, "graph.path")
            said = str(caught.value)
        closed.chmod(0o700)
    assert said.strip() == f"graph.path: {closed / below} cannot be read: Permission denied"


def test_triples_without_splits_are_to_be_split_first(tmp_path):
    (tmp_path / "facts.csv").write_text("a,r,b\n")
    with pytest.raises(InputError, match=f"split it first, advkge prepare path={tmp_path}/facts.csv out=DIR"):
        read_folder(tmp_path / "facts.csv", cache=None)
    with pytest.raises(InputError, match=f"split them first: advkge prepare path={tmp_path} out=DIR"):
        read_folder(tmp_path, cache=None)
