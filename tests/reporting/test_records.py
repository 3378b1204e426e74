"""Each format can be read back, whatever is in a name."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph.errors import InputError
from reporting.records import Line, Records, check_records_file, text_table, write_records

COLUMNS = ("name", "rank", "score", "known")
ODD = 'a\tb\nc\\d\r"\u00e9,'
LINES: list[Line] = [(ODD, 1, -1 / 3, True), ("plain", None, 12345678.9, False), ("x", 2.5, 0.0, False)]


def written(path: Path) -> str:
    assert write_records(path, Records(COLUMNS, iter(LINES))) == 3
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes().decode()


def test_tsv_has_one_line_for_each_record(tmp_path):
    assert written(tmp_path / "a.tsv").split("\n") == [
        "name\trank\tscore\tknown",
        'a\\tb\\nc\\\\d\\r"\u00e9,\t1\t-0.333333\ttrue',
        "plain\t\t1.23457e+07\tfalse",
        "x\t2.5\t0\tfalse",
        "",
    ]


def test_csv_can_be_read_back(tmp_path):
    written(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[:2] == [list(COLUMNS), [ODD, "1", "-0.333333", "true"]]
    assert len(lines) == 4


def test_jsonl_can_be_read_back(tmp_path):
    objects = [json.loads(line) for line in written(tmp_path / "a.jsonl").split("\n")[:-1]]
    assert objects[0] == {"name": ODD, "rank": 1, "score": -0.333333, "known": True}
    assert objects[1] == {"name": "plain", "rank": None, "score": 12345700.0, "known": False}


def test_a_table_has_its_columns_below_each_other():
    lines: list[Line] = [("x" * 30 + "y" * 30, 1), ("a\tb", None)]
    assert text_table(Records(("name", "rank"), lines)).split("\n") == [
        f"{'name':<44}  rank",
        f"{'x' * 21}...{'y' * 20}  1",
        "a\\tb",
    ]


def test_what_fails_while_it_is_computed_leaves_the_earlier_file(tmp_path):
    def lines() -> Iterator[Line]:
        yield LINES[0]
        raise InputError("the model has diverged")

    path = tmp_path / "a.tsv"
    path.write_text("before")
    with pytest.raises(InputError, match="diverged"):
        write_records(path, Records(COLUMNS, lines()))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", r"out must end in .tsv, .csv, .jsonl, got .*a.txt"),
        ("missing/a.tsv", r"out: there is no folder .*missing"),
        ("folder.tsv", r"out: .*folder.tsv is a folder"),
    ],
)
def test_a_file_that_cant_be_written_is_said_before_any_work(name, message, tmp_path):
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(InputError, match=message):
        check_records_file(tmp_path / name)
