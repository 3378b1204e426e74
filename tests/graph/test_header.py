import gzip
import logging
from pathlib import Path

import pytest

from graph.errors import InputError
from graph.reading import read_folder

TRAIN, VALID, TEST = "a\tr\tb\nb\tr\tc\n", "a\tr\tc\n", "c\tr\ta\n"
UNSURE = "; if the columns are not head, relation, tail, add their order, as in graph.columns=htr"


def advice(doubt: str = "") -> str:
    return f"graph.header=true skips the first line of each file{doubt}; graph.header=false reads it as a triple"


def folder_with(folder: Path, *contents: str, suffix: str = ".txt") -> Path:
    for split, content in zip(("train", "valid", "test"), contents, strict=False):
        text = content.replace("\t", ",") if suffix.startswith(".csv") else content
        (folder / (split + suffix)).write_bytes(
            gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode()
        )
    return folder


def message_of(folder: Path, **options: bool | str) -> str:
    with pytest.raises(InputError) as caught:
        read_folder(folder, cache=None, **options)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv.gz"])
@pytest.mark.parametrize("header", ["source\tmetaedge\ttarget\n", "von\tist\tnach\n", "h\tr\tt\n", "\ufeffu\tv\tw\n"])
def test_a_header_in_every_file_is_refused_with_the_option_that_skips_it(tmp_path, caplog, header, suffix):
    folder_with(tmp_path, header + TRAIN, header + VALID, header + TEST, suffix=suffix)
    words = ", ".join(header.strip("\ufeff\n").split("\t"))
    message = message_of(tmp_path)
    known = header.startswith(("source", "h"))
    told = f"{tmp_path / 'train'}{suffix}, line 1: a header ({words}), expected a triple: "
    assert message == told + advice("" if known else UNSURE)
    with caplog.at_level(logging.INFO, logger="advkge"):
        graph = read_folder(tmp_path, header=True, cache=None)
    assert list(graph.entity_names) == ["a", "b", "c"] and list(graph.relation_names) == ["r"]
    assert (len(graph.train), len(graph.valid), len(graph.test)) == (2, 1, 1)
    said = caplog.records[0].getMessage().partition(f"skipped the first line of each file, a header ({words})")[2]
    assert said.startswith(": the columns are head, relation, tail" if known else "; the columns were read as head, ")
    assert ("graph.columns=htr" in said) == (not known)
    assert len(read_folder(tmp_path, header=False, cache=None).train) == 3


@pytest.mark.parametrize("split", [0, 1, 2])
@pytest.mark.parametrize("header", ["source\tmetaedge\ttarget\n", "x\ty\tx\n", "Head\tRelation\tTail\n"])
def test_a_header_in_one_file_alone_is_to_be_taken_out(tmp_path, split, header):
    contents = [TRAIN, VALID, TEST]
    contents[split] = header + contents[split]
    message = message_of(folder_with(tmp_path, *contents))
    name = ("train", "valid", "test")[split]
    assert message.startswith(
        f"{tmp_path / name}.txt, line 1: a header ({', '.join(header.split())}), expected a triple"
    )
    assert "take the line out of this file" in message


def test_the_same_first_line_in_all_files_is_a_header_even_where_its_words_are_names_too(tmp_path):
    header = "a\tr\tb\n"
    assert "line 1: a header (a, r, b)" in message_of(
        folder_with(tmp_path, header + TRAIN, header + VALID, header + TEST)
    )


@pytest.mark.parametrize(
    "contents",
    [
        ("a\tr\tb\n", "a\tr\tb\n", "a\tr\tb\n"),  # a header above nothing would leave no triple
        ("a\tr\tb\n",),
        ("x\tr\ty\na\tr\tb\n", VALID, TEST),
        ("a\tonce\tb\n" + TRAIN, VALID, TEST),
        ("a\tonce\tx\n" + TRAIN, VALID, TEST),
        ("x\tonce\tx\nx\tr\tb\n", VALID, TEST),
    ],
)
def test_a_triple_is_no_header(tmp_path, contents):
    graph = read_folder(folder_with(tmp_path, *contents), cache=None)
    assert len(graph.train) == contents[0].count("\n")


def test_only_the_same_header_is_skipped(tmp_path):
    folder_with(tmp_path, "s\tp\to\n" + TRAIN, VALID * 2, TEST * 2)
    message = message_of(tmp_path, header=True)
    assert message.startswith(
        f"graph.header is true, but the first lines of the files of {tmp_path} differ (train.txt: s, p"
    )
    folder_with(tmp_path, "s\tp\to\n", VALID, TEST)
    assert "train.txt has nothing after its first line" in message_of(tmp_path, header=True)


def test_the_option_is_checked(tmp_path):
    assert message_of(tmp_path, header="yes") == "graph.header must be true, false or auto, is 'yes'"
    (tmp_path / "train.nt").write_text("<a> <r> <b> .\n")
    assert message_of(tmp_path, header=True) == "graph.header is true, but N-Triples has no line of column names"


@pytest.mark.parametrize("header", ["Subject,Object,Predicate", "film,to,edge", "from,target,label"])
def test_the_words_of_a_header_say_the_order_of_the_columns(tmp_path, caplog, header):
    (tmp_path / "train.csv").write_text(f"{header}\na,b,r\nb,c,r\n")
    with caplog.at_level(logging.INFO, logger="advkge"):
        graph = read_folder(tmp_path, header=True, cache=tmp_path / "cache")
    assert list(graph.relation_names) == ["r"] and graph.train.tolist() == [[0, 0, 1], [1, 0, 2]]
    assert "the columns are head, tail, relation" in caplog.text
    as_typed = read_folder(tmp_path, header=True, columns="hrt", cache=tmp_path / "cache")
    assert list(as_typed.relation_names) == ["b", "c"]
    if header.startswith("Subject"):
        assert advice(" and takes the columns as head, tail, relation") in message_of(tmp_path)


def test_relations_that_look_like_entities_are_told(tmp_path, caplog):
    facts = [(f"film {number}", f"person {number % 30}", ("made by", "seen by")[number % 2]) for number in range(120)]
    (tmp_path / "train.tsv").write_text("".join("\t".join(fact) + "\n" for fact in facts))
    read_folder(tmp_path, cache=None)
    assert "there are more relations (30) than different tails (2): if the columns are not head" in caplog.text
    caplog.clear()
    assert read_folder(tmp_path, columns="htr", cache=None).num_relations == 2 and not caplog.records
    (tmp_path / "train.tsv").write_text("".join(f"{number}\tlink {number}\t{number + 1}\n" for number in range(20)))
    read_folder(tmp_path, cache=None)
    assert "20 of the 20 relations occur once: if the columns" in caplog.text
