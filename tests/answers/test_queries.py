"""Queries are read as they stand; of a wrong line, one sentence says where it is and what is wrong."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest

from answers.queries import QueryIds, read_queries, typed_query
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import graph_of


def graph() -> KnowledgeGraph:
    names = ["Ann", "Bob", "a\tb", "two\nlines", "C:\\new", "New York, NY"]
    return replace(graph_of([(0, 0, 1)], 6, 2), entity_names=names, relation_names=["likes", "knows"])


def ids_of(path: Path) -> list[list[int]]:
    return QueryIds(graph()).of(read_queries(path)).tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_asks_for_any_place_or_for_none(packed: bool, tmp_path: Path):
    text = "Ann\tlikes\t?\n?\tknows\tBob\r\n\nAnn\t?\tNew York, NY\nBob\tknows\tAnn"
    path = tmp_path / ("queries.tsv.gz" if packed else "queries.tsv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert ids_of(path) == [[0, 0, -1], [-1, 1, 1], [0, -1, 5], [1, 1, 0]]


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_has_commas_and_quotes(packed: bool, tmp_path: Path):
    text = 'Ann,likes,?\n?, knows ,Bob\r\n\nAnn,?,"New York, NY"\n'
    path = tmp_path / ("queries.csv.gz" if packed else "queries.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert ids_of(path) == [[0, 0, -1], [-1, 1, 1], [0, -1, 5]]
    path = tmp_path / "wrong.csv"
    path.write_text("Ann,likes\n")
    with pytest.raises(InputError, match=r"line 1: 2 columns, expected head, relation and tail, separated by commas$"):
        ids_of(path)


def test_names_may_be_written_as_exports_write_them(tmp_path: Path):
    path = tmp_path / "queries.tsv"
    path.write_text("a\\tb\tlikes\ttwo\\nlines\nC:\\\\new\tlikes\tC:\\new\n")
    assert ids_of(path) == [[2, 0, 3], [4, 0, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"Ann\tlikes\t?\nAnn likes Bob\n",
            "FILE, line 2: 1 column, expected head, relation and tail, separated by tabs",
        ),
        (
            b"Ann,likes,?\n",
            "FILE, line 1: 1 column, expected head, relation and tail, separated by tabs; this line has commas: such a "
            "file is named .csv",
        ),
        (b"Ann\tlikes\n", "FILE, line 1: 2 columns, expected head, relation and tail, separated by tabs"),
        (b"?\tlikes\t?\n", "FILE, line 1: 2 question marks, expected one at most: '? likes ?'"),
        (b"\nAnn\tlikes\t?\nAnne\tlikes\t?\n", "FILE, line 3: by hand has no entity 'Anne'; did you mean 'Ann'?"),
        (b"Ann\tlike\tnobody\n", "FILE, line 1: by hand has no relation 'like'; did you mean 'likes'?"),
        (b"Ann\tlikes\tqqq\n", "FILE, line 1: by hand has no entity 'qqq'"),
        (
            b"Ann\tlikes\t\xff\n",
            "FILE, line 1: byte 11 (0xff) is not UTF-8, expected UTF-8 text; if it is Latin-1, write it anew by "
            "iconv -f latin1 -t utf-8 queries.tsv",
        ),
        (b"\n", "queries: FILE has no queries, expected at least one line"),
        (b"PK\x03\x04", "queries: FILE is a zip archive: unpack it"),
    ],
)
def test_a_wrong_line_is_named(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "queries.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        ids_of(path)
    assert str(error.value) == message.replace("FILE", str(path))


def test_a_damaged_or_missing_file_is_named(tmp_path: Path):
    path = tmp_path / "queries.gz"
    with pytest.raises(InputError, match=f"queries: {path} can't be read: No such file"):
        read_queries(path)
    path.write_bytes(gzip.compress(b"Ann\tlikes\t?\n" * 1000)[:-20])
    with pytest.raises(InputError, match=f"queries: {path}: the gzip stream is damaged after line "):
        read_queries(path)


def test_two_of_three_options_are_needed():
    with pytest.raises(InputError, match=re.escape("or queries=FILE, got head=Ann")):
        typed_query("Ann", None, None)
    with pytest.raises(InputError, match="got none of them"):
        typed_query(None, None, None)
    with pytest.raises(InputError, match="tail: by hand has no entity 'bob'; did you mean 'Bob'"):
        QueryIds(graph()).of([typed_query("Ann", "likes", "bob")])
