"""A file of triples by the names of a graph: ids, or the line of the first name that is not there."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from graph.errors import InputError
from graph.named_triples import read_named

ENTITIES, RELATIONS = ["a", "b", "ü"], ["r", "s"]


def write(folder: Path, name: str) -> Path:
    path = folder / name
    rows = [("ü", "s", "a"), ("a", "r", "a"), ("ü", "s", "a")]
    if name.endswith(".parquet"):
        parquet.write_table(pa.table(dict(zip("hrt", map(list, zip(*rows, strict=True)), strict=True))), path)
    elif name.endswith(".nt"):
        path.write_text("".join("{} .\n".format(" ".join(f"<{each}>" for each in row)) for row in rows))
    else:
        path.write_text("".join(("," if "csv" in name else "\t").join(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["n.tsv", "n.txt", "n.csv", "n.nt", "n.parquet"])
def test_reads_each_form(name: str, tmp_path: Path):
    found = read_named(write(tmp_path, name), ENTITIES, RELATIONS, "key")
    assert found.equal(torch.tensor([[2, 1, 0], [0, 0, 0], [2, 1, 0]]))


@pytest.mark.parametrize(
    ("name", "entities", "relations", "message"),
    [
        ("n.tsv", ["a"], RELATIONS, "n.tsv, line 1: the head 'ü' is no entity of the graph$"),
        ("n.csv", ENTITIES, ["s"], "n.csv, line 2: the relation 'r' is no relation of the graph$"),
        ("n.parquet", ["ü"], RELATIONS, "n.parquet, triple 2: the head 'a' is no entity of the graph$"),
    ],
)
def test_names_that_are_not_there_are_refused(name, entities, relations, message, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        read_named(write(tmp_path, name), entities, relations, "key")


def test_files_that_can_not_be_read_are_refused(tmp_path: Path):
    (tmp_path / "n.md").write_text("a\tr\ta\n")
    (tmp_path / "wrong.tsv").write_text("a\tr\n")
    for name, message in (
        ("none.tsv", "^key must name a file of triples, .*/none.tsv is missing$"),
        ("", "^key must name a file of triples, .* is a folder$"),
        ("n.md", r"^key: .*/n.md is in no format that is read, expected a name like \*.txt"),
        ("wrong.tsv", "wrong.tsv, line 1: 2 columns, expected 3"),
    ):
        with pytest.raises(InputError, match=message):
            read_named(tmp_path / name, ENTITIES, RELATIONS, "key")
