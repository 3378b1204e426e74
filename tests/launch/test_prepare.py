"""prepare.py: any form of triples becomes a folder that graph=folder reads; its files do not depend on lines' order."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from graph.reading import read_folder
from launch import prepare
from tests.pages import Page
from tests.worlds import families


def facts() -> list[tuple[str, str, str]]:
    graph = families()
    triples = graph.train.tolist() + graph.valid.tolist() + graph.test.tolist()
    return [(graph.entity_names[h], graph.relation_names[r], graph.entity_names[t]) for h, r, t in triples]


def lines(rows: list[tuple[str, str, str]], separator: str = "\t") -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def read(folder: Path) -> dict[str, set[tuple[str, str, str]]]:
    graph = read_folder(folder, cache=None)
    return {
        split: {(graph.entity_names[h], graph.relation_names[r], graph.entity_names[t]) for h, r, t in triples}
        for split in ("train", "valid", "test")
        if (triples := getattr(graph, split).tolist())
    }


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("statistics")}


def write_raw(kind: str, folder: Path) -> tuple[Path, list[str]]:
    """The same facts in some form; returns what path= is and further options."""
    rows = facts()
    if kind == "csv with a header and another order":
        path = folder / "dump.csv.gz"
        path.write_bytes(
            gzip.compress(lines([("tail", "head", "rel"), *((t, h, r) for h, r, t in rows)], ",").encode())
        )
        return path, ["graph.columns=thr", "graph.header=true"]
    if kind == "parquet":
        columns = dict(zip(("subject", "predicate", "object"), map(list, zip(*rows, strict=True)), strict=True))
        parquet.write_table(pa.table(columns), folder / "facts.parquet")
        return folder / "facts.parquet", []
    if kind == "a folder with one file":
        (folder / "facts.tsv").write_text(lines(rows))
        (folder / "README.md").write_text("facts")
        return folder, []
    if kind == "a folder with train alone":
        (folder / "train.txt").write_text(lines(rows))
        return folder, []
    (folder / "facts.txt").write_text(lines(random.Random(3).sample(rows, len(rows)) + rows[:7]))
    return folder / "facts.txt", []


KINDS = ["csv with a header and another order", "parquet", "a folder with one file", "a folder with train alone"]


def test_every_form_gives_the_same_splits_whatever_the_order_of_lines(command, tmp_path):
    written = {}
    for kind in [*KINDS, "a file with repetitions in another order"]:
        folder = tmp_path / kind / "raw"
        folder.mkdir(parents=True)
        path, options = write_raw(kind, folder)
        outcome = command(prepare, f"path={path}", f'out="{tmp_path / kind / "out"}"', *options)
        assert outcome.code == 0, outcome.errors
        written[kind] = content(tmp_path / kind / "out")
        assert ("left out: 7 duplicates" in outcome.output) == ("repetitions" in kind)
    assert len(set(map(str, written.values()))) == 1
    assert set(written[KINDS[0]]) == {"train.txt.gz", "valid.txt.gz", "test.txt.gz"}
    out = tmp_path / KINDS[0] / "out"
    splits = read(out)
    assert set.union(*splits.values()) == set(facts())
    assert sum(map(len, splits.values())) == len(set(facts()))
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["triples"] == {split: len(rows) for split, rows in splits.items()}
    assert statistics["leaks"]["test"] == {"reversed": 0, "mirrored": 0, "other_relation": 0}
    assert statistics["uncovered"] == {"valid": 0, "test": 0}
    again = command(prepare, f"path={tmp_path / KINDS[3] / 'raw'}", f"out={out}", "seed=1", "together=false")
    assert again.code == 0, again.errors
    assert content(out) != written[KINDS[0]]
    assert json.loads((out / "statistics.json").read_text())["leaks"]["test"]["reversed"] > 0


def test_splits_are_kept_and_files_get_the_names_that_were_asked_for(command, tmp_path):
    rows = facts()[:400]
    (tmp_path / "raw").mkdir()
    for split, part in (
        ("train", rows[:300] + rows[:2]),
        ("valid", rows[299:340]),
        ("test", [*rows[340:], ("x", "y", "z")]),
    ):
        (tmp_path / "raw" / f"{split}.txt").write_text(lines(part))
    options = ["suffix=.tsv", "names=[train,dev,test]"]
    outcome = command(prepare, f"path={tmp_path / 'raw'}", f"out={tmp_path / 'out'}", *options)
    assert outcome.code == 0, outcome.errors
    assert "its splits were kept" in outcome.output
    assert set(content(tmp_path / "out")) == {"train.tsv", "dev.tsv", "test.tsv"}
    assert (tmp_path / "out" / "train.tsv").read_text() == lines(sorted(rows[:300]))
    dev = (tmp_path / "out" / "dev.tsv").read_text().splitlines()
    assert set(dev) <= set(lines(rows[300:340]).splitlines())
    removed = json.loads((tmp_path / "out" / "statistics.json").read_text())["removed"]
    assert (removed["duplicates"], removed["repeated_valid"]) == (2, 1)
    assert removed["uncovered_valid"] == 40 - len(dev)
    assert removed["uncovered_test"] >= 1


def test_names_are_escaped_and_a_first_line_like_a_header_is_said(command, tmp_path):
    (tmp_path / "a.tsv").write_text(lines([*facts(), ("A<b>", "<script>", 'B&"')]))
    outcome = command(prepare, f"path={tmp_path / 'a.tsv'}", "out=out", "hydra/job_logging=stdout")
    assert outcome.code == 0, outcome.errors
    page = Page((tmp_path / "out" / "statistics.html").read_text())
    page.check()
    assert "<script>" in [row[0] for row in page.tables["Relations"]]
    assert 'the first line of train (A<b>, <script>, B&") looks like a header' in outcome.output
    assert "graph.header=false" in outcome.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=out"], "path must be the file or folder to read, as in path=triples.tsv, it is not given"),
        (["path=good.tsv"], "out must be the folder to write, as in out=prepared, it is not given"),
        (["path=wrong.tsv", "out=out"], "{}/wrong.tsv, line 2: 2 columns, expected 3 separated by a tab"),
        (["path=tab.parquet", "out=out"], r"the entity 'a\tb' has a tab or an end of a line in its name"),
        (["path=good.tsv", "out=other"], "out must be a new or empty folder or an earlier preparation, but "),
        (["path=empty", "out=empty"], "out must be another folder than path, got {}/empty for both"),
        (["path=wrong.tsv", "out=out", "ratio=[0.8,0.1,0.2]"], "ratio must be the shares of train, valid and test"),
        (["path=semicolons.tsv", "out=out"], "a semicolon (write tabs in their place, as by tr ';' "),
        (
            ["path=four.tsv", "out=out"],
            "4 columns, expected 3 separated by a tab; leave out the other columns, as by",
        ),
        (["path=latin.tsv", "out=out"], "if it is Latin-1, write it anew by iconv -f latin1 -t utf-8 latin.tsv"),
        (["path=good.tsv", "out=out", "ratio=[0.1,0.4,0.5]"], "ratio: valid and test may have at most "),
        (["path=good.tsv", "out=out", "suffix=.csv"], "suffix must be one of .txt, .tsv, .txt.gz, .tsv.gz, got '.csv'"),
        (["path=good.tsv", "out=out", "names=[a,a,b]"], "names must be three different names of files, "),
        (["path=good.tsv", "out=out", "graph=umls"], "graph must be folder here: path=RAW says what is read"),
        (["path=good.tsv", "out=out", "rato=[1,0,0]"], "rato: there is no such option; did you mean ratio?"),
    ],
)
def test_one_line_says_what_is_wrong(words, message, command, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("good.tsv", "other/a.tsv"):
        (tmp_path / name).write_text(lines(facts()[:50]))
    (tmp_path / "wrong.tsv").write_text("a\tr\tb\na\tr\n")
    (tmp_path / "semicolons.tsv").write_text("a;r;b\n")
    (tmp_path / "four.tsv").write_text("a\tr\tb\t1\n")
    (tmp_path / "latin.tsv").write_bytes("é\tr\tb\n".encode("latin1"))
    parquet.write_table(pa.table({"h": ["a\tb"], "r": ["r"], "t": ["c"]}), tmp_path / "tab.parquet")
    outcome = command(prepare, *words)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith("error: ")
    assert message.format(tmp_path) in outcome.errors
    assert not (tmp_path / "out").exists()


def test_splits_that_stay_empty_are_told(command, tmp_path):
    (tmp_path / "few.tsv").write_text(lines([("a", "r", f"t{number}") for number in range(5)]))
    outcome = command(prepare, f"path={tmp_path / 'few.tsv'}", "out=out")
    assert outcome.code == 0, outcome.errors
    assert "valid and test are empty, because 5 triples are too few" in outcome.output


def test_wrong_lines_are_listed_or_left_out_and_counted(command, tmp_path):
    rows = lines(facts())
    (tmp_path / "clean.tsv").write_text(rows)
    (tmp_path / "raw.tsv").write_text("torn\n" + rows.replace("\n", "\nonly\ttwo\n", 2))
    outcome = command(prepare, f"path={tmp_path / 'raw.tsv'}", "out=prepared")
    assert outcome.code == 1
    assert "line 1: 1 column, expected 3 separated by a tab" in outcome.errors
    assert outcome.errors.endswith(
        "; 3 lines of the file are wrong: 1 (1 column), 3 (2 columns), 5 (2 columns); "
        "wrong_lines=skip leaves such lines out\n"
    )
    outcome = command(prepare, f"path={tmp_path / 'raw.tsv'}", "out=prepared", "wrong_lines=skip")
    assert outcome.code == 0, outcome.errors
    assert (
        "left out: 1 lines that are no triple (1 column)\nleft out: 2 lines that are no triple (2 columns)\n"
        in outcome.output
    )
    said = json.loads((tmp_path / "prepared" / "statistics.json").read_text())
    assert said["wrong_lines"] == {"1 column": 1, "2 columns": 2}
    assert command(prepare, f"path={tmp_path / 'clean.tsv'}", "out=clean").code == 0
    assert content(tmp_path / "prepared") == content(tmp_path / "clean")
    outcome = command(prepare, f"path={tmp_path / 'raw.tsv'}", "out=prepared", "wrong_lines=ignore")
    assert outcome.errors == "error: wrong_lines must be error or skip, got 'ignore'\n"
