import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graph import checked_file, graph_cache
from graph.format import text
from graph.knowledge_graph import KnowledgeGraph
from graph.reading import read_folder


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "triples"
    folder.mkdir()
    (folder / "train.txt").write_text("a\tr\tb\nb\ts\tc\n")
    (folder / "valid.txt").write_text("a\tr\tc\n")
    (folder / "test.txt").write_text("straße\tr\ta\n")
    return folder


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "deep" / "cache"


def only_file(cache: Path) -> Path:
    [file] = cache.iterdir()  # nothing half-written stays beside it
    return file


def rewrite(file: Path, content: bytes, *, mtime_ns: int | None = None) -> None:
    file.write_bytes(content)
    if mtime_ns is not None:
        os.utime(file, ns=(mtime_ns, mtime_ns))


def assert_same(one: KnowledgeGraph, other: KnowledgeGraph) -> None:
    assert one.fingerprint() == other.fingerprint() and one.name == other.name
    assert list(one.entity_names) == list(other.entity_names)
    assert list(one.relation_names) == list(other.relation_names)
    for split in ("train", "valid", "test", "hidden"):
        assert torch.equal(getattr(one, split), getattr(other, split))


def test_a_cached_graph_equals_the_read_one(folder, cache):
    plain = read_folder(folder, cache=None)
    assert_same(read_folder(folder, cache=str(cache)), plain)
    assert_same(read_folder(folder, cache=str(cache)), plain)
    assert only_file(cache).name.startswith("graph-")


def test_the_cache_is_used_and_the_source_not_read(folder, cache, caplog):
    first = read_folder(folder, cache=cache)
    train = folder / "train.txt"
    content = train.read_bytes()
    rewrite(train, b"x" * len(content), mtime_ns=train.stat().st_mtime_ns)  # no reader would accept this
    with caplog.at_level(logging.INFO, logger="advkge"):
        assert_same(read_folder(folder, cache=cache), first)
    assert not caplog.records


@pytest.mark.parametrize("change", ["size", "time", "other file"])
def test_a_changed_source_is_read_again_and_the_cache_renewed(folder, cache, caplog, change):
    read_folder(folder, cache=cache)
    train = folder / "train.txt"
    mtime_ns = train.stat().st_mtime_ns
    if change == "size":
        rewrite(train, b"a\tr\tb\n", mtime_ns=mtime_ns)
    elif change == "time":
        rewrite(train, train.read_bytes().replace(b"s", b"q"), mtime_ns=mtime_ns + 1)
    else:
        train.rename(folder / "train.tsv")
    fresh = read_folder(folder, cache=None)
    with caplog.at_level(logging.INFO, logger="advkge"):
        assert_same(read_folder(folder, cache=cache), fresh)
        assert_same(read_folder(folder, cache=cache), fresh)
    assert [record.getMessage() for record in caplog.records] == [
        f"graph cache {only_file(cache)} was made from other sources: making it again"
    ]


def test_a_cache_of_another_format_version_is_renewed(folder, cache, monkeypatch):
    read_folder(folder, cache=cache)
    before = only_file(cache).read_bytes()
    monkeypatch.setattr(graph_cache, "FORMAT_VERSION", graph_cache.FORMAT_VERSION + 1)
    read_folder(folder, cache=cache)
    assert only_file(cache).read_bytes() != before


def test_column_orders_have_their_own_cache(folder, cache):
    read_folder(folder, cache=cache)
    turned = read_folder(folder, columns="trh", cache=cache)
    assert_same(turned, read_folder(folder, columns="trh", cache=None))
    assert len(list(cache.iterdir())) == 2


def test_a_relative_path_finds_the_same_cache(folder, cache, monkeypatch):
    read_folder(folder, cache=cache)
    monkeypatch.chdir(folder.parent)
    read_folder("triples", cache=cache)
    assert only_file(cache)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other metadata", "text"])
def test_a_damaged_cache_is_rebuilt_and_said_once(folder, cache, caplog, damage):
    first = read_folder(folder, cache=cache)
    file = only_file(cache)
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 1
    file.unlink()  # the graph that was read first maps it
    file.write_bytes(
        {
            "truncated": good[:-9],
            "flipped": bytes(flipped),
            "empty": b"",
            "other metadata": good.replace(b"advkge_graph", b"advkge_grapX"),
            "text": b"hello, this is no graph",
        }[damage]
    )
    with caplog.at_level(logging.INFO, logger="advkge"):
        assert_same(read_folder(folder, cache=cache), first)
        assert_same(read_folder(folder, cache=cache), first)
    [record] = caplog.records
    assert record.getMessage().startswith(f"graph cache {file} is damaged (")
    assert only_file(cache).read_bytes() == good


def test_a_cache_that_cannot_be_written_is_a_warning(folder, tmp_path, caplog):
    (tmp_path / "occupied").write_text("a file, so no folder can be made here")
    with caplog.at_level(logging.WARNING, logger="advkge"):
        graph = read_folder(folder, cache=tmp_path / "occupied" / "cache")
    assert len(graph.train) == 2
    [record] = caplog.records
    assert "cannot be written" in record.getMessage()


def test_a_write_that_fails_leaves_the_old_cache_and_no_debris(folder, cache, caplog, monkeypatch):
    read_folder(folder, cache=cache)
    before = only_file(cache).read_bytes()
    (folder / "train.txt").write_text("z\tr\tb\n")

    def full_disk(tensors, file, metadata):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checked_file, "save_file", full_disk)
    with caplog.at_level(logging.WARNING, logger="advkge"):
        assert read_folder(folder, cache=cache).entity_names[0] == "z"
    assert "No space left on device" in caplog.text
    assert only_file(cache).read_bytes() == before


def test_a_source_that_changes_while_it_is_read_makes_the_cache_stale(folder, cache, monkeypatch):
    read_text = text.read_text

    def slow_read(path, layout, wrong_lines):
        split = read_text(path, layout, wrong_lines)
        if path.name == "train.txt":
            path.write_text("late\tr\tchange\n")
        return split

    monkeypatch.setattr(text, "read_text", slow_read)
    read_folder(folder, cache=cache)
    monkeypatch.undo()
    assert read_folder(folder, cache=cache).entity_names[0] == "late"


def test_the_file_is_the_one_that_safetensors_would_write(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_file, "_BLOCK", 4)
    tensors = {
        "b": torch.arange(11),
        "a": torch.arange(7, dtype=torch.uint8),
        "turned": torch.arange(12, dtype=torch.int32).view(3, 4).t(),
        "none": torch.zeros(0, 3, dtype=torch.int32),
    }
    metadata = {"key": '{"stamp": "é \\" "}'}
    with (tmp_path / "own").open("wb") as own:
        checked_file.save_file(tensors, own, metadata)
    save_file({name: each.contiguous() for name, each in tensors.items()}, tmp_path / "theirs", metadata)
    assert (tmp_path / "own").read_bytes() == (tmp_path / "theirs").read_bytes()
