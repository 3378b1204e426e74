import gzip
import logging
from pathlib import Path

import pytest

from graph.errors import InputError
from graph.reading import read_folder

TRAIN, VALID, TEST = "a\tr\tb\nb\tr\tc\n", "a\tr\tc\n", "c\tr\ta\n"
ADVICE = "graph.header=true skips the first line of each file; graph.header=false reads it as a triple"


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
    assert message == f"{tmp_path / 'train'}{suffix}, line 1: a header ({words}), expected a triple: {ADVICE}"
    with caplog.at_level(logging.INFO, logger="advkge"):
        graph = read_folder(tmp_path, header=True, cache=None)
    assert list(graph.entity_names) == ["a", "b", "c"] and list(graph.relation_names) == ["r"]
    assert (len(graph.train), len(graph.valid), len(graph.test)) == (2, 1, 1)
    assert caplog.records[0].getMessage().endswith(f"skipped the first line of each file, a header ({words})")
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
