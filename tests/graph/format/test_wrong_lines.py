"""Wrong lines: an error names ten of them and how many there are; or they are left out and counted by reason."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

import graph.format.text
from graph.errors import InputError
from graph.format.source import ReadOptions
from graph.format.unsplit import recognise_any
from graph.reading import read_found

WRONG = [
    (b"only,two", "2 columns"),
    (b"a,r,b,c", "4 columns"),
    (b"", "a blank line"),
    (b"a,,b", "the relation is empty"),
    (b'a,"r"x,b', "bad quoting"),
    (b"caf\xe9,r,b", "not UTF-8"),
    (b'" a",r,b', "white space at the edge of the head"),
]


def read(path: Path, *, skip: Counter[str] | None = None, header: bool = False) -> set[tuple[str, ...]]:
    options = ReadOptions("auto", None, header=header, literals=False, strip=False, wrong_lines=skip)
    found, _ = read_found("raw", recognise_any(path, "auto"), options)
    names, relations = found.entity_names, found.relation_names
    return {(names[h], relations[r], names[t]) for h, r, t in found.train.tolist()}


def right(number: int) -> bytes:
    return f"e{number},r,e{number + 1}".encode()


def test_all_wrong_lines_are_named_at_once(tmp_path):
    path = tmp_path / "raw.csv"
    lines = [line for number in range(len(WRONG)) for line in (right(number), WRONG[number][0])]
    path.write_bytes(b"\n".join([*lines, right(99)]) + b"\n")
    with pytest.raises(InputError) as error:
        read(path)
    named = ", ".join(f"{2 * number} ({reason})" for number, (_, reason) in enumerate(WRONG, start=1))
    assert str(error.value).startswith(f"{path}, line 2: 2 columns, expected 3 separated by a comma")
    assert str(error.value).endswith(f"; 7 lines of the file are wrong: {named}")


def test_of_many_wrong_lines_ten_are_named(tmp_path):
    path = tmp_path / "raw.tsv"
    path.write_text("a\tr\tb\n" + "a b\n" * 12_345)
    with pytest.raises(InputError) as error:
        read(path)
    assert "12,345 lines of the file are wrong: 2 (1 column), 3 (1 column), " in str(error.value)
    assert str(error.value).endswith("11 (1 column), ...")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_wrong_lines_that_are_left_out_are_counted_by_reason(packed, block, tmp_path, monkeypatch):
    monkeypatch.setattr(graph.format.text, "_BLOCK_BYTES", block)
    path = tmp_path / ("raw.csv.gz" if packed else "raw.csv")
    lines = [right(number) for number in range(40)]
    for number, (line, _) in enumerate(WRONG):
        lines.insert(20 + 2 * number, line)
    text = b"\r\n".join([b"head,relation,tail", *lines, b"torn"])
    path.write_bytes(gzip.compress(text) if packed else text)
    skipped: Counter[str] = Counter()
    found = read(path, skip=skipped, header=True)
    assert found == {(f"e{number}", "r", f"e{number + 1}") for number in range(40)}
    assert skipped == Counter([*(reason for _, reason in WRONG), "1 column"])


def test_wrong_lines_of_n_triples(tmp_path):
    path = tmp_path / "raw.nt"
    path.write_bytes(b"<a> <r> <b> .\n<a> <r> b .\n# said\n\n<a> <\xe9> <b> .\n<a> <r>\n<b> <r> <c> .\n")
    with pytest.raises(InputError, match=r"line 2: expected a triple .*; 3 lines of the file are wrong: 2 \(no triple"):
        read(path)
    skipped: Counter[str] = Counter()
    assert read(path, skip=skipped) == {("a", "r", "b"), ("b", "r", "c")}
    assert skipped == {"no triple": 2, "not UTF-8": 1}


def test_a_file_without_a_right_line_is_an_error(tmp_path):
    path = tmp_path / "raw.tsv"
    path.write_text("a,r,b\nb,r,c\n")
    with pytest.raises(InputError, match="2 lines of the file are wrong"):
        read(path, skip=Counter())
