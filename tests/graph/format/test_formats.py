"""Each format that others keep triples in, against the same graph as text."""

import gzip
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.reading import read_folder

TRIPLES = {
    "train": [("anna", "knows", "ben"), ("ben", "likes", "anna"), ("carl", "knows", "anna")],
    "valid": [("anna", "knows", "carl")],
    "test": [("carl", "likes", "ben")],
}
ENTITIES, RELATIONS = ["zoe", "ben", "anna", "carl"], ["likes", "knows"]  # by id; zoe has no triple


def as_lines(separator: str, columns: str = "hrt", *, by_id: bool, first: bool = False) -> dict[str, bytes]:
    lines = {}
    for split, rows in TRIPLES.items():
        text = [f"{len(rows)}\n"] if first else []
        for h, r, t in rows:
            cell = {"h": ENTITIES.index(h), "r": RELATIONS.index(r), "t": ENTITIES.index(t)} if by_id else {}
            cell = cell or {"h": h, "r": r, "t": t}
            text.append(separator.join(str(cell[letter]) for letter in columns) + "\n")
        lines[split] = "".join(text).encode()
    return lines


def id_lists(*, name_first: bool, count: bool = False) -> list[bytes]:
    files = []
    for names in (ENTITIES, RELATIONS):
        pairs = [(name, str(number)) if name_first else (str(number), name) for number, name in enumerate(names)]
        files.append(
            "".join([f"{len(names)}\n" if count else "", *("\t".join(pair) + "\n" for pair in pairs)]).encode()
        )
    return files


def with_lists(
    triples: Mapping[str, bytes], suffix: str, lists: list[bytes], names: tuple[str, str]
) -> dict[str, bytes]:
    return {**{split + suffix: content for split, content in triples.items()}, **dict(zip(names, lists, strict=True))}


def table_file(rows: list[tuple[str, str, str]], columns: tuple[str, str, str] = ("head", "relation", "tail")) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))), buffer)
    return buffer.getvalue()


def openke() -> dict[str, bytes]:
    lists = id_lists(name_first=True, count=True)
    return with_lists(
        as_lines(" ", "htr", by_id=True, first=True), "2id.txt", lists, ("entity2id.txt", "relation2id.txt")
    )


def libkge() -> dict[str, bytes]:
    lists = id_lists(name_first=False)
    return with_lists(as_lines("\t", by_id=True), ".del", lists, ("entity_ids.del", "relation_ids.del"))


def dict_folder(columns: str = "hrt", *, by_id: bool, name_first: bool = False) -> dict[str, bytes]:
    lists = id_lists(name_first=name_first)
    return with_lists(as_lines("\t", columns, by_id=by_id), ".txt", lists, ("entities.dict", "relations.dict"))


def ntriples() -> dict[str, bytes]:
    lines = as_lines("> <", by_id=False)
    return {f"{split}.nt": b"<" + text.strip().replace(b"\n", b"> .\n<") + b"> .\n" for split, text in lines.items()}


def parquet_files() -> dict[str, bytes]:
    return {f"{split}.parquet": table_file(rows) for split, rows in TRIPLES.items()}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def named(graph: KnowledgeGraph) -> dict[str, list[tuple[str, str, str]]]:
    return {
        split: [
            (graph.entity_names[h], graph.relation_names[r], graph.entity_names[t])
            for h, r, t in getattr(graph, split).tolist()
        ]
        for split in TRIPLES
    }


def message_of(folder: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_folder(folder, cache=None, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CASES = {
    "openke": (openke(), "OpenKE"),
    "libkge": (libkge(), "LibKGE"),
    "dglke": (dict_folder(by_id=True), "DGL-KE's ids with .dict files"),
    "dglke of its documentation": (dict_folder(by_id=True, name_first=True), "DGL-KE's ids with .dict files"),
    "rotate": (dict_folder(by_id=False), "RotatE's names with .dict files"),
    "ntriples": (ntriples(), "N-Triples"),
    "parquet": (parquet_files(), "Parquet"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_format_is_recognised_by_its_files_and_said(tmp_path, caplog, case):
    files, title = CASES[case]
    with caplog.at_level(logging.INFO, logger="advkge"):
        graph = read_folder(write(tmp_path, files), cache=tmp_path / "cache")
        again = read_folder(tmp_path, cache=tmp_path / "cache")
    assert named(graph) == named(again) == TRIPLES
    assert graph.fingerprint() == again.fingerprint()
    said = [record.getMessage() for record in caplog.records if f"read as {title}: " in record.getMessage()]
    assert len(said) == 2 and all(name in said[0] for name in files)
    if any("entit" in name for name in files):  # lists of ids: these are kept, also of entities without a triple
        assert list(graph.entity_names) == ENTITIES and list(graph.relation_names) == RELATIONS


@pytest.mark.parametrize("columns", ["htr", "trh"])
def test_dglke_has_any_order_of_columns(tmp_path, columns):
    write(tmp_path, dict_folder(columns, by_id=True))
    assert named(read_folder(tmp_path, columns=columns, cache=None)) == TRIPLES
    if columns == "htr":  # the entities of trh would be ids as good the other way round
        message = message_of(tmp_path)
        assert "an id of 0 to 1, as in relations.dict; graph.columns=htr or another order may be the file's" in message


def test_blanks_tabs_and_windows_line_ends_are_fine_for_openke(tmp_path):
    files = openke()
    files["train2id.txt"] = files["train2id.txt"].replace(b" ", b"\t").replace(b"\n", b"  \r\n")
    files["entity2id.txt"] = b"\xef\xbb\xbf" + files["entity2id.txt"].replace(b"\t", b"  ")
    assert named(read_folder(write(tmp_path, files), cache=None)) == TRIPLES


CHANGED = [
    (openke, "train2id.txt", b"3\n", b"4\n", "train2id.txt, line 1: it says 4 triples, but 3 follow"),
    (openke, "train2id.txt", b"3\n", b"", "train2id.txt, line 1: expected the number of triples, got '2 1 1'"),
    (openke, "train2id.txt", b"1 2 0", b"1 4 0", "train2id.txt, line 3: the tail is '4', expected an id of 0 to 3"),
    (openke, "train2id.txt", b"1 2 0", b"1 -2 0", "train2id.txt, line 3: the tail is '-2', expected an id of 0 to 3"),
    (openke, "train2id.txt", b"1 2 0", b"1 2", "train2id.txt, line 3: 2 columns, expected 3"),
    (openke, "train2id.txt", b"3\n", b"9" * 5000 + b"\n", "train2id.txt, line 1: expected the number of triples"),
    (openke, "entity2id.txt", b"4\n", b"9" * 5000 + b"\n", "entity2id.txt, line 1: expected a name and its id"),
    (openke, "valid2id.txt", b"2 3 1", b"2 3 2", "valid2id.txt, line 2: the relation is '2', expected an id of 0 to 1"),
    (openke, "entity2id.txt", b"4\n", b"5\n", "entity2id.txt, line 1: it says 5 lines, but 4 follow"),
    (openke, "entity2id.txt", b"\t3", b"\t2", "entity2id.txt, line 5: the id 2 is also on line 4, expected each once"),
    (openke, "entity2id.txt", b"zoe", b"carl", "line 5: the name 'carl' is also on line 2, expected each once"),
    (openke, "entity2id.txt", b"\t3", b"\t9", "entity2id.txt, line 5: the id 9 is not one of 0 to 3"),
    (openke, "entity2id.txt", b"\t3", b"", "entity2id.txt, line 5: expected a name and its id separated by a tab"),
    (libkge, "entity_ids.del", b"3\tcarl", b"3\tcarl ", "entity_ids.del, line 4: the name 'carl ' has white space"),
    (libkge, "entity_ids.del", b"3\tcarl", b"x\tcarl", "entity_ids.del, line 4: expected a name and its id"),
    (libkge, "test.del", b"3", b"three", "test.del, line 1: the head is 'three', expected an id of 0 to 3"),
    (libkge, "relation_ids.del", b"0\tlikes\n1\tknows\n", b"", "relation_ids.del is empty, expected a name and its id"),
    (libkge, "relation_ids.del", b"likes", b"\xff", "relation_ids.del, line 1: byte 3 (0xff) is not UTF-8"),
]


@pytest.mark.parametrize(("make", "name", "old", "new", "what"), CHANGED)
def test_lists_that_disagree_with_themselves_or_the_triples_are_refused(tmp_path, make, name, old, new, what):
    files = make()
    assert old in files[name]
    files[name] = files[name].replace(old, new, 1)
    assert what in message_of(write(tmp_path, files))


def test_a_name_that_the_lists_do_not_have_is_refused(tmp_path):
    files = dict_folder(by_id=False)
    files["valid.txt"] += b"anna\tknows\tdora\n"
    message = message_of(write(tmp_path, files))
    assert "valid.txt, line 2: the tail is 'dora', expected a name in entities.dict" in message


def test_names_that_are_numbers_of_the_same_range_need_the_format(tmp_path):
    files = {
        "train.txt": b"1\t0\t3\n2\t0\t1\n",
        "entities.dict": b"0\t3\n1\t2\n2\t1\n3\t17\n",
        "relations.dict": b"0\t0\n",
    }
    message = message_of(write(tmp_path, files))
    assert "say which by graph.format=dglke" in message and "graph.format=rotate" in message
    assert read_folder(tmp_path, format="dglke", cache=None).train.tolist() == [[1, 0, 3], [2, 0, 1]]
    assert read_folder(tmp_path, format="rotate", cache=None).train.tolist() == [[2, 0, 0], [1, 0, 2]]
    (tmp_path / "entities.dict").write_bytes(b"0\t3\n1\t2\n2\t1\n3\t0\n")
    assert "both columns have ids 0 to 3, so names and ids can't be told apart" in message_of(tmp_path)


def test_a_folder_in_two_formats_needs_the_format(tmp_path):
    write(tmp_path, libkge())
    write(tmp_path, {f"{split}.txt": content for split, content in as_lines("\t", by_id=False).items()})
    message = message_of(tmp_path)
    assert message.endswith("say which by graph.format=text (train.txt) or graph.format=libkge (train.del)")
    assert list(read_folder(tmp_path, format="libkge", cache=None).entity_names) == ENTITIES
    assert list(read_folder(tmp_path, format="text", cache=None).entity_names) == ["anna", "ben", "carl"]


@pytest.mark.parametrize(
    ("files", "options", "what"),
    [
        ({"train.txt": b"a\tr\tb\n", "dev.txt": b"b\tr\ta\n"}, {}, "has dev.txt, which is no valid file"),
        ({"train.txt": b"a\tr\tb\n", "Test.txt": b"b\tr\ta\n"}, {}, "has Test.txt, which is no test file"),
        (
            {"train.nt": b"<a> <r> <b> .\n", "valid.txt": b"b\tr\ta\n"},
            {},
            "has valid.txt, which is no valid file for N-Tr",
        ),
        ({"train.txt": b"a\tr\tb\n", "entities.dict": b"0\ta\n"}, {}, "needs relations.dict beside the triples"),
        ({"train.del": b"0\t0\t0\n"}, {}, "LibKGE needs entity_ids.del and relation_ids.del beside the triples"),
        (
            {"train.txt": b"a\tr\tb\n"},
            {"format": "parquet"},
            "has no train file, expected one of train.parquet; train.txt",
        ),
        ({"train.txt": b"a\tr\tb\n"}, {"format": "csv"}, "graph.format must be one of auto, text, ntriples, parquet, "),
        ({"train.nt": b"<a> <r> <b> .\n"}, {"columns": "htr"}, "graph.columns: N-Triples are hrt, got htr"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, files, options, what):
    assert what in message_of(write(tmp_path, files), **options)


NT = (
    "# a comment\n\n"
    "<http://x/a> <http://x/r> <http://x/b> .\n"
    '<http://x/b>\t<http://x/r>\t"caf\\u00e9 \\"x\\""@en-GB .\n'
    "_:b0 <http://x/r> <http://x/\\u0061> . # the first one again\r\n"
    '<http://x/a><http://x/r>"5" ^^ <http://int>.\n'
    "<http://x/a> <http://x/r> <http://x/é> ."
)


@pytest.mark.parametrize("name", ["train.nt", "train.nt.gz"])
def test_literals_are_left_out_or_kept_and_counted(tmp_path, caplog, name):
    write(tmp_path, {name: NT.encode()})
    with caplog.at_level(logging.INFO, logger="advkge"):
        without = named(read_folder(tmp_path, cache=None))["train"]
        whole = named(read_folder(tmp_path, literals=True, cache=None))["train"]
    assert without == [
        ("http://x/a", "http://x/r", "http://x/b"),
        ("_:b0", "http://x/r", "http://x/a"),
        ("http://x/a", "http://x/r", "http://x/é"),
    ]
    assert [row for row in whole if row not in without] == [
        ("http://x/b", "http://x/r", '"café "x""@en-GB'),
        ("http://x/a", "http://x/r", '"5"^^<http://int>'),
    ]
    assert f"{name}: 2 triples whose tail is a literal were left out; graph.literals=true keeps them" in caplog.text
    assert f"{name}: 2 triples whose tail is a literal were kept, each as an entity" in caplog.text


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("<a> <r> <b>", "line 2: expected a triple <head> <relation> <tail> . got '<a> <r> <b>'"),
        ("<a> <r> <b> <graph> .", "line 2: expected a triple"),
        ("<a> _:r <b> .", "line 2: expected a triple"),
        ('"a" <r> <b> .', "line 2: expected a triple"),
        ("<a b> <r> <c> .", "line 2: expected a triple"),
        ('<a> <r> "x"y" .', "line 2: expected a triple"),
        ('<a> <r> "\\x" .', "line 2: expected a triple"),
        ("a\tr\tb", "line 2: expected a triple"),
        ("<a\\uD800> <r> <b> .", "line 2: expected a triple"),
        ("<a\\UFFFFFFFF> <r> <b> .", "line 2: expected a triple"),
        ('<a> <r> "\x1f" .', "line 2: expected a triple"),
        ("<a> <r> <\\u0020> .", "an IRI is ' ' once its escapes are decoded, expected no white space in it"),
        ("<a> <r> <\udcff> .", "line 2: byte 10 (0xff) is not UTF-8, expected UTF-8 text"),
    ],
)
def test_what_is_no_ntriples_is_refused_with_its_line(tmp_path, line, what):
    content = f"<a> <r> <b> .\n{line}\n".encode(errors="surrogateescape")
    assert what in message_of(write(tmp_path, {"train.nt": content}))


def test_ntriples_without_a_triple_is_refused(tmp_path):
    message = message_of(write(tmp_path, {"train.nt": b'<a> <r> "x" .\n'}))
    assert message.endswith(
        "has no triple but 1 whose tail is a literal, which are left out; graph.literals=true keeps them"
    )
    assert message_of(write(tmp_path, {"train.nt": b""})).endswith("train.nt is empty, expected at least one triple")


def test_parquet_columns_go_by_their_names_or_by_order(tmp_path):
    rows = [(h, t, r) for h, r, t in TRIPLES["train"]]
    write(tmp_path, {"train.parquet": table_file(rows, ("Subject", "object", "predicate"))})
    assert named(read_folder(tmp_path, cache=None))["train"] == TRIPLES["train"]
    write(tmp_path, {"train.parquet": table_file(rows, ("a", "b", "c"))})
    assert named(read_folder(tmp_path, columns="htr", cache=None))["train"] == TRIPLES["train"]


def test_parquet_in_parts_as_hugging_face_has_it(tmp_path):
    files = {f"train-0000{i}-of-00003.parquet": table_file([row]) for i, row in enumerate(TRIPLES["train"])}
    files["validation-00000-of-00001.parquet"] = table_file(TRIPLES["valid"])
    graph = read_folder(write(tmp_path, files), cache=None)
    assert named(graph) == {**TRIPLES, "test": []}


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"h": ["a", None], "r": ["r", "r"], "t": ["b", "c"]}, "row 2: the head is null, expected a name"),
        ({"h": ["a", "b"], "r": ["r", ""], "t": ["b", "c"]}, "row 2: the relation '' is empty, expected a name"),
        ({"h": ["a", "b"], "r": ["r", "r"], "t": ["b", " c"]}, "row 2: the tail ' c' has white space at its edge"),
        ({"h": [1.5], "r": ["r"], "t": ["b"]}, "the column of the head is double, expected text or integers"),
        ({"w": ["a"], "x": ["a"], "y": ["r"], "z": ["b"]}, "has the columns w, x, y, z; expected three, or some named"),
        ({"0": ["von", "a"], "1": ["ist", "r"], "2": ["nach", "a"]}, "line 1: a header (von, ist, nach)"),
    ],
)
def test_what_is_wrong_in_parquet_is_named(tmp_path, columns, what):
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    assert what in message_of(write(tmp_path, {"train.parquet": buffer.getvalue()}))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    assert "cannot be read as Parquet: " in message_of(write(tmp_path, {"train.parquet": b"a\tr\tb\n"}))
