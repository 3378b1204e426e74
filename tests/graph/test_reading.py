import gzip
import logging
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graph.errors import InputError
from graph.format import text
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from graph.reading import read_folder

GOOD = b"a\tr\tb\nb\tr\tc\n"


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def folder_with(folder: Path, train: bytes, name: str = "train.txt") -> Path:
    write(folder, name, train)
    write(folder, "valid.txt", b"a\tr\tc\n")
    write(folder, "test.txt", b"c\tr\ta\n")
    return folder


def message_of(folder: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_folder(folder, cache=None, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def named_triples(graph: KnowledgeGraph, split: str) -> list[tuple[str, str, str]]:
    rows: list[list[int]] = getattr(graph, split).tolist()
    return [(graph.entity_names[h], graph.relation_names[r], graph.entity_names[t]) for h, r, t in rows]


def random_triples(count: int, rng: random.Random, entities: list[str]) -> list[tuple[str, str, str]]:
    return [(rng.choice(entities), rng.choice(["knows", "likes é", "of"]), rng.choice(entities)) for _ in range(count)]


def dict_reader(splits: list[list[tuple[str, str, str]]]) -> tuple[list[str], list[str]]:
    """Names in the documented order, the plain way."""
    entities: dict[str, None] = {}
    relations: dict[str, None] = {}
    for rows in splits:
        entities |= dict.fromkeys(head for head, _, _ in rows)
        entities |= dict.fromkeys(tail for _, _, tail in rows)
        relations |= dict.fromkeys(relation for _, relation, _ in rows)
    return list(entities), list(relations)


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".txt", ".tsv", ".csv"])
@pytest.mark.parametrize("block", [64, 32 << 20])
def test_every_format_equals_a_plain_reader(tmp_path, monkeypatch, suffix, packing, block):
    monkeypatch.setattr(text, "_BLOCK_BYTES", block)  # 64 bytes: many blocks, each with its own dictionary
    rng = random.Random(7)
    odd = ['"quoted" x', "NA", "null", "straße", "a b", "007"] + (["x,y"] if suffix == ".csv" else ["'", '"'])
    entities = odd + [f"e{i}" for i in range(30)]
    splits = [random_triples(count, rng, entities) for count in (200, 20, 30)]
    for name, rows in zip(("train", "valid", "test"), splits, strict=True):
        lines = ["\t".join(row) for row in rows]
        if suffix == ".csv":
            lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
        write(tmp_path, name + suffix + packing, "\n".join(lines).encode() + b"\n")
    graph = read_folder(tmp_path, cache=None)
    entity_names, relation_names = dict_reader(splits)
    assert list(graph.entity_names) == entity_names
    assert list(graph.relation_names) == relation_names
    assert [named_triples(graph, split) for split in ("train", "valid", "test")] == splits
    assert graph.train.dtype == torch.int32 and len(graph.hidden) == 0


def test_300_thousand_lines(tmp_path):
    rng = random.Random(1)
    rows = [(rng.randrange(50_000), rng.randrange(40), rng.randrange(50_000)) for _ in range(300_000)]
    folder_with(tmp_path, "".join(f"/m/{h}\t/rel/{r}\t/m/{t}\n" for h, r, t in rows).encode(), "train.tsv.gz")
    graph = read_folder(tmp_path, cache=None)
    entity_names = list(graph.entity_names)
    entity_number = torch.tensor([int(name[3:]) if name.startswith("/m/") else -1 for name in entity_names])
    relation_number = torch.tensor([int(name[5:]) if name != "r" else -1 for name in graph.relation_names])
    decoded = torch.stack(
        [entity_number[graph.train[:, 0]], relation_number[graph.train[:, 1]], entity_number[graph.train[:, 2]]], 1
    )
    assert torch.equal(decoded, torch.tensor(rows, dtype=decoded.dtype))
    assert len(set(entity_names)) == len(entity_names) == graph.num_entities


def test_ids_follow_the_splits_and_in_each_the_heads_then_the_tails(tmp_path):
    write(tmp_path, "train.txt", b"a\tr\tc\nb\tq\ta\n")
    write(tmp_path, "valid.txt", b"e\tr\tf\nd\tr\ta\n")
    write(tmp_path, "test.txt", b"g\tp\td\n")
    graph = read_folder(tmp_path, cache=None)
    assert list(graph.entity_names) == ["a", "b", "c", "e", "d", "f", "g"]
    assert list(graph.relation_names) == ["r", "q", "p"]


@pytest.mark.parametrize("columns", ["hrt", "htr", "rht", "rth", "thr", "trh"])
def test_columns_give_the_order_in_the_file(tmp_path, columns):
    row = {"h": "anna", "r": "knows", "t": "ben"}
    for split in ("train", "valid", "test"):
        write(tmp_path, f"{split}.txt", "\t".join(row[letter] for letter in columns).encode())
    assert named_triples(read_folder(tmp_path, columns=columns, cache=None), "train") == [("anna", "knows", "ben")]


def test_dense_integer_ids_keep_their_value(tmp_path):
    write(tmp_path, "train.txt", b"10\t1\t3\n2\t0\t9\n1\t1\t0\n")
    write(tmp_path, "valid.txt", b"4\t1\t5\n8\t0\t7\n")
    write(tmp_path, "test.txt", b"6\t0\t1\n")
    graph = read_folder(tmp_path, cache=None)
    assert graph.train.tolist() == [[10, 1, 3], [2, 0, 9], [1, 1, 0]]
    assert list(graph.entity_names) == [str(i) for i in range(11)]


def test_integer_ids_of_any_length_keep_their_order_and_equal_values_their_spelling(tmp_path):
    huge = b"9" * 30
    folder_with(tmp_path, huge + b"\tr\t07\n7\tr\t100\n")
    write(tmp_path, "valid.txt", b"100\tr\t007\n")
    write(tmp_path, "test.txt", b"7\tr\t3\n")
    assert list(read_folder(tmp_path, cache=None).entity_names) == ["3", "7", "07", "007", "100", "9" * 30]


def test_one_name_that_is_no_integer_leaves_the_order_of_appearance(tmp_path):
    folder_with(tmp_path, b"10\t5\t2\n-1\t3\t0\n")
    write(tmp_path, "valid.txt", b"2\t3\t10\n")
    write(tmp_path, "test.txt", b"2\t5\t10\n")
    graph = read_folder(tmp_path, cache=None)
    assert list(graph.entity_names) == ["10", "-1", "2", "0"]
    assert list(graph.relation_names) == ["3", "5"]


@pytest.mark.parametrize("name", ["train.txt", "train.csv.gz"])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n\n", b"\r\n", b"\r\n\r\n"])
def test_line_endings_bom_and_blank_lines_at_the_end_are_fine(tmp_path, name, ending):
    line_end = b"\r\n" if ending.startswith(b"\r") else b"\n"
    content = b"\xef\xbb\xbfa\tr\tb" + line_end + b"b\tr\tc" + ending
    folder_with(tmp_path, content.replace(b"\t", b",") if ".csv" in name else content, name)
    graph = read_folder(tmp_path, cache=None)
    assert named_triples(graph, "train") == [("a", "r", "b"), ("b", "r", "c")]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (GOOD + b"c\tr\n", "line 3", "2 columns, expected 3 separated by a tab"),
        (GOOD + b"c\tr\td\te\n", "line 3", "4 columns, expected 3 separated by a tab"),
        (b"a,r,b\n", "line 1", "1 column, expected 3 separated by a tab; this line has 3 separated by a comma"),
        (b"a r b\n", "line 1", "this line has 3 separated by a space"),
        (GOOD + b"\tr\td\n", "line 3", "the head is empty"),
        (GOOD + b"c\t\td\n", "line 3", "the relation is empty"),
        (GOOD + b"c\tr\t\n", "line 3", "the tail is empty"),
        (GOOD + b"c\tr\t  \n", "line 3", "the tail is empty"),
        (GOOD + b"\t\t\n", "line 3", "the head is empty"),
        (b"\xef\xbb\xbf\tr\tb\n", "line 1", "the head is empty"),
        (GOOD + b"c\tr\td\xff\n", "line 3", "byte 6 (0xff) is not UTF-8"),
        (GOOD + b"\n" + GOOD, "line 3", "blank line before line 4"),
        (b"\r\n" + GOOD, "line 1", "blank line before line 2"),
        (b"a\tr\tb\r\nb\tr\r\n", "line 2", "2 columns"),
    ],
)
@pytest.mark.parametrize("name", ["train.txt", "train.tsv.gz"])
def test_a_bad_line_is_named(tmp_path, name, content, where, what):
    message = message_of(folder_with(tmp_path, content, name))
    assert message.startswith(f"{tmp_path / name}, {where}: ")
    assert what in message


def test_the_first_bad_line_far_into_a_file_is_named(tmp_path):
    lines = [b"a\tr\tb\n"] * 80_000
    lines[60_000] = b"a\tb\n"
    lines[70_000] = b"\xff\tr\tb\n"
    assert "train.txt, line 60001: 2 columns" in message_of(folder_with(tmp_path, b"".join(lines)))


def test_an_empty_cell_is_named_by_the_order_of_the_columns(tmp_path):
    assert "line 1: the tail is empty" in message_of(folder_with(tmp_path, b"a\t\tr\n"), columns="htr")


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b'a,r,b\na,"r,b\n', "line 2", "bad quoting"),
        (b'a,r,b\n"a\nb",r,b\n', "line 2", "on the same line"),
        (b'a,r,b\na, "r"x, b\n', "line 2", "bad quoting"),
        (b'a,r,b\n"",r,b\n', "line 2", "the head is empty"),
        (b"a\tr\tb\n", "line 1", "expected 3 separated by a comma; this line has 3 separated by a tab"),
        (b"a,r,b,c\n", "line 1", "4 columns, expected 3 separated by a comma"),
    ],
)
def test_a_bad_csv_line_is_named(tmp_path, content, where, what):
    message = message_of(folder_with(tmp_path, content, "train.csv"))
    assert message.startswith(f"{tmp_path / 'train.csv'}, {where}: ")
    assert what in message


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("content", [b"", b"\n\r\n\n"])
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_an_empty_file_is_refused(tmp_path, split, content, packing):
    folder_with(tmp_path, GOOD)
    (tmp_path / f"{split}.txt").unlink()
    write(tmp_path, f"{split}.txt{packing}", content)
    assert message_of(tmp_path) == f"{tmp_path / split}.txt{packing} is empty, expected at least one triple"


def many_lines() -> bytes:
    rng = random.Random(3)
    return b"".join(b"e%d\tr\te%d\n" % (rng.randrange(10**6), rng.randrange(10**6)) for _ in range(20_000))


def test_a_truncated_gz_says_after_which_line(tmp_path):
    folder_with(tmp_path, GOOD)
    (tmp_path / "train.txt").unlink()
    whole = gzip.compress(many_lines())
    (tmp_path / "train.txt.gz").write_bytes(whole[: len(whole) // 2])
    message = message_of(tmp_path)
    assert message.startswith(f"{tmp_path / 'train.txt.gz'}: the gzip stream is truncated after line ")
    assert 8_000 < int(message.split("after line ")[1].split(",")[0]) < 12_000
    (tmp_path / "train.txt.gz").write_bytes(whole[:-3])  # all the text is there, its checksum is not
    assert "truncated after line 20000, expected" in message_of(tmp_path)


def test_a_corrupt_gz_is_refused(tmp_path):
    folder_with(tmp_path, GOOD)
    (tmp_path / "train.txt").unlink()
    whole = bytearray(gzip.compress(many_lines()))
    whole[-6] ^= 255
    (tmp_path / "train.txt.gz").write_bytes(whole)
    assert "train.txt.gz: the gzip stream is corrupt (CRC check failed" in message_of(tmp_path)
    (tmp_path / "train.txt.gz").write_bytes(GOOD)
    assert "train.txt.gz: the gzip stream is corrupt (Not a gzipped file" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.txt.gz", GOOD),
        ("train.csv.gz", b"a, r, b\nb, r, c\n"),
        ("train.nt.gz", b"<a> <r> <b> .\n<b> <r> <c> .\n"),
    ],
)
def test_zeros_after_a_gzip_stream_are_fine_as_they_are_for_gzip(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) + b"\0" * 700)
    assert named_triples(read_folder(tmp_path, cache=None), "train") == [("a", "r", "b"), ("b", "r", "c")]


@pytest.mark.parametrize("start", [b"a\tr\t", b""])
def test_a_line_as_long_as_a_file_is_refused_in_linear_time(tmp_path, start):
    (tmp_path / "train.txt").write_bytes(GOOD + start + b"x" * 80_000_000 + b"\n")
    started = time.process_time()
    assert message_of(tmp_path) == f"{tmp_path / 'train.txt'}, line 3: is longer than 32 MiB, expected a triple"
    assert time.process_time() - started < 5  # quadratic: 16 s


def test_a_missing_folder_or_file_is_named(tmp_path):
    assert message_of(tmp_path / "nowhere") == f"graph.path must name a folder, {tmp_path / 'nowhere'} is missing"
    write(tmp_path, "train.txt", GOOD)
    assert "train.txt is a file" in message_of(tmp_path / "train.txt")
    (tmp_path / "train.txt").rename(tmp_path / "train.ttl")
    message = message_of(tmp_path)
    assert message.startswith(f"{tmp_path} has no train file, expected one of train.txt, train.txt.gz, train.tsv, ")
    assert message.endswith("; train.ttl is in no format that is read")
    with pytest.raises(
        InputError, match=r"^graph\.path must name the folder of your triples, as in graph\.path=DIR, got null$"
    ):
        read_folder(None, cache=None)


def test_two_files_for_one_split_are_refused(tmp_path):
    write(folder_with(tmp_path, GOOD), "train.csv.gz", GOOD)
    assert "train.txt and train.csv.gz for the same split" in message_of(tmp_path)


@pytest.mark.parametrize("columns", ["", "hr", "hrtt", "hrx", "subject"])
def test_columns_must_be_an_order_of_hrt(tmp_path, columns):
    message = message_of(folder_with(tmp_path, GOOD), columns=columns)
    assert message.startswith("graph.columns ") and message.endswith(f"is {columns!r}")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder_with(tmp_path, GOOD)
    assert read_folder("~", cache=None).name == tmp_path.name


def test_test_triples_in_train_are_a_warning_with_their_count(tmp_path, caplog):
    folder_with(tmp_path, GOOD)
    write(tmp_path, "test.txt", b"b\tr\tc\na\tr\tb\nc\tr\tb\nb\tr\tb\n")
    with caplog.at_level(logging.WARNING, logger="advkge"):
        read_folder(tmp_path, cache=None)
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: 2 of 4 test triples are also in train"]
    caplog.clear()
    write(tmp_path, "test.txt", b"c\tr\tb\n")
    read_folder(tmp_path, cache=None)
    assert not caplog.records


def test_the_summary_counts_what_a_user_must_know(tmp_path):
    folder_with(tmp_path, GOOD + GOOD + b"a\tr\tb\n")
    write(tmp_path, "valid.txt", b"a\tr\tnew1\na\tr\tb\n")
    write(tmp_path, "test.txt", b"new2\tnew_r\ta\nb\tr\tc\nb\tr\tc\n")
    summary = read_folder(tmp_path, cache=None).summary()
    assert "5 entities, 2 relations; 5 train, 2 valid, 3 test triples" in summary
    assert "not in train: 2 entities, 1 relations" in summary
    assert "repeated in train: 1 valid and 2 test triples" in summary
    assert "duplicates inside train: 3 triples" in summary
    assert "true but in no split" not in summary


def test_leaks_are_counted_in_the_summary_and_warned_of(tmp_path, caplog):
    write(tmp_path, "train.txt", b"a\tr\tb\nb\tr\tc\nc\tq\ta\n" + b"".join(b"x%d\tr\ty\n" % i for i in range(20)))
    write(tmp_path, "valid.txt", b"a\tr\tb\nx1\tq\ty\nb\tq\tx2\n")
    write(tmp_path, "test.txt", b"x1\tq\ty\na\tr\tc\nc\tr\tb\n")
    summary = read_folder(tmp_path, cache=None).summary()
    assert "repeated in train: 1 valid and 0 test triples; in valid: 1 test triples" in summary
    # (a, r, c) has (c, q, a) in train; (c, r, b) has (b, r, c), of its own relation
    assert "reversed in train under another relation: 0 valid and 1 test triples (33.3% of test)" in summary
    assert [record.getMessage().removeprefix(f"{tmp_path}: ") for record in caplog.records] == [
        "1 of 3 valid triples are also in train: early stopping is decided by them too",
        "1 of 3 test triples are also in valid, which chooses the model that is tested",
        "1 of 3 test triples (33%) are in train the other way round, under another relation: inverse relations give "
        "them away",
    ]


def test_in_a_graph_so_dense_that_most_pairs_are_linked_both_ways_this_is_no_warning(tmp_path, caplog):
    write(tmp_path, "train.txt", b"".join(b"%d\tr\t%d\n" % (i, j) for i in range(6) for j in range(6) if i != j))
    write(tmp_path, "test.txt", b"1\tq\t2\n2\tq\t1\n")
    assert "2 test triples (100.0% of test)" in read_folder(tmp_path, cache=None).summary()
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "content", "where", "shown"),
    [
        ("train.txt", b"a\tr\tb\nb\tr\tc \n", "line 2: the tail ", "'c '"),
        ("train.csv", b"a\t,r,b\n", "line 1: the head ", "'a\\t'"),
        ("train.csv", b'" a",r,b\n', "line 1: the head ", "' a'"),
        ("train.csv", b'a,r,"b "\n', "line 1: the tail ", "'b '"),
        ("train.tsv", "a\tr\u00a0\tb\n".encode(), "line 1: the relation ", "'r\\xa0'"),
        ("train.tsv", "a\tr\tb\n\ufeffb\tr\ta\n".encode(), "line 2: the head ", "'\\ufeffb'"),  # joined files
        ("train.tsv.gz", b"a\tr\tb\t".replace(b"b\t", b"b\x0b"), "line 1: the tail ", "'b\\x0b'"),
    ],
)
def test_white_space_at_the_edge_of_a_name_is_refused_or_cut_off_and_counted(
    tmp_path, caplog, name, content, where, shown
):
    write(tmp_path, name, content)
    assert message_of(tmp_path) == (
        f"{tmp_path / name}, {where}{shown} has white space at its edge, expected a name without; "
        "graph.strip=true cuts it off"
    )
    graph = read_folder(tmp_path, strip=True, cache=None)
    assert set(graph.entity_names) <= set("abc") and list(graph.relation_names) == ["r"]
    [record] = caplog.records
    assert record.getMessage() == f"{tmp_path}: {name}: white space at the edge of 1 names was cut off (graph.strip)"


def test_names_that_are_equal_once_stripped_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK_BYTES", 32)  # some in one block and some in others
    rows = [("a", "r", "b"), ("b", "r", "a"), ("c", "q", "b")] * 20
    padded = [tuple(name + " " * (number % 3) for name in row) for number, row in enumerate(rows)]
    write(tmp_path, "train.txt", "\n".join("\t".join(row) for row in padded).encode())
    graph = read_folder(tmp_path, strip=True, cache=None)
    assert named_triples(graph, "train") == rows
    assert list(graph.entity_names) == ["a", "b", "c"]


@pytest.mark.parametrize("block", [48, 32 << 20])
def test_spaces_beside_commas_and_at_ends_of_lines_are_skipped_and_told(tmp_path, monkeypatch, caplog, block):
    monkeypatch.setattr(text, "_BLOCK_BYTES", block)
    rows = [("e1", "r0", "e2"), ("x, y", "r0", "e1"), ('say ""hi""', "r 1", "e2"), ('5" disk', "r0", "x,  y")] * 9
    lines = ["e1, r0 , e2  ", '"x, y"  ,   "r0", e1', '  "say """"hi""""", "r 1",e2', '5" disk, r0, "x,  y" '] * 9
    write(tmp_path, "train.csv", "\r\n".join(lines).encode())
    write(tmp_path, "valid.csv", b" e2, r0 ,e1 \r\n")
    write(tmp_path, "test.csv", b"e1,r0,e1\n")
    with caplog.at_level(logging.INFO, logger="advkge"):
        graph = read_folder(tmp_path, cache=None)
    assert named_triples(graph, "train") == rows and named_triples(graph, "valid") == [("e2", "r0", "e1")]
    told = "spaces beside commas and at ends of lines were left out; quotes would keep them"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: {split}.csv: {told}" for split in ("train", "valid")
    ]


def test_names_that_look_the_same_are_told(tmp_path, caplog):
    lines = "caf\u00e9\tr\tcafe\u0301\n\u212b\tr\t\u00c5\nA\u030a\tr\tcaf\u00e9\nK\tr\t\u212a\nnai\u0308ve\tr\tK\n"
    write(tmp_path, "train.txt", lines.encode())
    graph = read_folder(tmp_path, cache=tmp_path / "cache")
    assert graph.num_entities == 8
    expected = (
        "7 entities have names that differ in bytes alone and look the same (Unicode NFC), as "
        r"'\u212b' and 'A\u030a': they are kept apart"
    )
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: {expected}"]
    read_folder(tmp_path, cache=tmp_path / "cache")  # also of a graph that is not read anew
    assert len(caplog.records) == 2


def test_names_with_quotes_in_one_split_alone_are_told(tmp_path, caplog):
    write(tmp_path, "train.tsv", b'"a"\t"r"\t"b"\n"\tr\t""\n"b"\t"s"\t"c"\n')
    write(tmp_path, "valid.tsv", b"b\tr\ta\n")
    graph = read_folder(tmp_path, cache=None)
    assert graph.num_entities == 7
    said = [
        "2 entities have a name in quotes that another one has without, as '\"a\"' and 'a'",
        "1 relations have a name in quotes that another one has without, as '\"r\"' and 'r'",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: {text}: they are kept apart" for text in said
    ]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("train.txt", gzip.compress(GOOD, mtime=0), "is packed with gzip: its name must end in .gz"),
        ("train.csv", gzip.compress(GOOD, mtime=0), "is packed with gzip: its name must end in .gz"),
        ("train.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "is a Git LFS pointer, "),
        ("train.nt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "is a Git LFS pointer, "),
        ("train.txt.gz", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, "),
        ("train.tsv", "a\tr\tb\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        ("train.csv", b"<!DOCTYPE html>\n", "is a web page: the download went wrong"),
        ("train.txt", b"a r b c d\n", "1 column, expected 3 separated by a tab; this line has no tab, and 5 words "),
        (
            "train.txt",
            b"<http://a>\t<http://r>\t<http://b> .\n",
            "line 1: this is N-Triples, expected a name that ends in .nt",
        ),
        ("train.csv", b"<http://a>,<http://r>,<http://b> .\n", "line 1: this is N-Triples"),
        ("train.txt", b'a\tr\tb\n<http://a> <http://r> "b c" .\n', "line 2: this is N-Triples"),
    ],
)
def test_a_file_is_named_for_what_it_is(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    message = message_of(tmp_path)
    assert message.startswith(f"{tmp_path / name}") and what in message


def test_without_valid_and_test_files_these_splits_are_empty(tmp_path):
    write(tmp_path, "train.txt", GOOD)
    graph = read_folder(tmp_path, cache=tmp_path / "cache")
    assert (len(graph.train), graph.valid.shape, graph.test.shape) == (2, (0, 3), (0, 3))
    assert "2 train, 0 valid, 0 test triples" in read_folder(tmp_path, cache=tmp_path / "cache").summary()


def test_options_of_reading_have_caches_of_their_own(tmp_path):
    write(tmp_path, "train.txt", b"h\tr\tt\n" + GOOD)
    kept = read_folder(tmp_path, header=False, cache=tmp_path / "cache")
    skipped = read_folder(tmp_path, header=True, cache=tmp_path / "cache")
    assert (len(kept.train), len(skipped.train)) == (3, 2)


def test_hidden_triples_are_counted():
    triples = torch.tensor([[0, 0, 1]])
    graph = KnowledgeGraph("g", ["a", "b"], ["r"], triples, triples, triples, triples.repeat(4, 1))
    assert "true but in no split: 4 triples" in graph.summary()


def test_the_fingerprint_follows_content_and_not_form():
    rows = torch.tensor([[0, 0, 1], [1, 0, 0], [1, 0, 1]])
    graph = KnowledgeGraph("g", ["a", "b"], ["r"], train=rows[:1], valid=rows[1:2], test=rows[2:])
    base = graph.fingerprint()
    assert len(base) == 16
    assert base == replace(graph, name="other", entity_names=PackedNames.pack(["a", "b"])).fingerprint()
    assert base == replace(graph, train=rows.flip(0)[2:]).fingerprint()
    others = [
        replace(graph, entity_names=["a", "c"]),
        replace(graph, entity_names=["ab", ""]),
        replace(graph, relation_names=["s"]),
        replace(graph, train=rows[1:2]),
        replace(graph, train=rows[:2], valid=rows[2:], test=rows[:0]),
        replace(graph, test=rows[:1]),
    ]
    assert len({base, *(other.fingerprint() for other in others)}) == len(others) + 1


def test_packed_names_behave_as_a_list():
    plain = ["a", "", "straße", "日本", "b c"]
    packed = PackedNames.pack(plain)
    assert len(packed) == 5 and list(packed) == plain
    assert packed[-1] == "b c" and packed[1:4] == plain[1:4] and packed[::-2] == plain[::-2]
    assert "日本" in packed and "x" not in packed and packed.index("straße") == 2
    for index in (5, -6):
        with pytest.raises(IndexError):
            packed[index]
    assert list(PackedNames.pack([])) == []
