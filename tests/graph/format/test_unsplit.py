"""Triples without splits are found: a file of any name, or the only one of a folder."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from graph.errors import InputError
from graph.format.unsplit import recognise_any


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("empty", "several", "split", "one", "openke"):
        (tmp_path / name).mkdir()
    for name in ("a.tsv", "several/a.tsv", "several/b.csv", "split/train.txt", "split/test.txt", "split/more.tsv"):
        (tmp_path / name).write_text("a\tr\tb\n")
    (tmp_path / "b.nt.gz").write_bytes(gzip.compress(b"<a> <r> <b> .\n"))
    parquet.write_table(pa.table({"h": ["a"], "r": ["r"], "t": ["b"]}), tmp_path / "one" / "facts.parquet")
    (tmp_path / "one" / "LICENSE.md").write_text("free")
    (tmp_path / "notes.md").write_text("free")
    (tmp_path / "openke" / "train2id.txt").write_text("1\n0 1 0\n")
    for name, lines in (("entity2id.txt", "2\na 0\nb 1\n"), ("relation2id.txt", "1\nr 0\n")):
        (tmp_path / "openke" / name).write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "format", "files"),
    [
        ("a.tsv", "text", ["train"]),
        ("b.nt.gz", "ntriples", ["train"]),
        ("one", "parquet", ["train"]),
        ("split", "text", ["train", "test"]),
        ("openke", "openke", ["train"]),
    ],
)
def test_finds_splits_or_one_file(name: str, format: str, files: list[str], folder: Path):
    found = recognise_any(folder / name, "auto")
    assert [each.name for each in found.formats] == [format]
    assert list(found.splits) == files
    assert recognise_any(folder / name, format).splits == found.splits


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("nowhere", "auto", "^path must name a file or a folder, .*/nowhere is missing$"),
        ("empty", "auto", r"^path: .*/empty has no file of triples, expected one like \*.txt, \*.txt.gz, .*parquet$"),
        (
            "several",
            "auto",
            r"^path: .*/several has 2 files that may be triples \(a.tsv, b.csv\) and none called train; ",
        ),
        ("notes.md", "auto", r"/notes.md is in no format that is read alone, expected a name like \*.txt, .*parquet$"),
        ("a.tsv", "parquet", "/a.tsv is names as text by its name, expected .*, of graph.format=parquet$"),
        ("a.tsv", "typo", "of graph.format=typo$"),
        ("several", "typo", "graph.format must be one of auto, text, .*, is 'typo'"),
        ("one", "openke", "has no train file, expected one of train2id.txt"),
    ],
)
def test_says_what_is_wrong(name: str, wanted: str, message: str, folder: Path):
    with pytest.raises(InputError, match=message):
        recognise_any(folder / name, wanted)
