"""The sorted facts of train in a file: mapped, of these triples, and made again when damaged."""

import logging

import torch

from graph.known import KnownTriples
from graph.known_cache import cached_facts
from tests.worlds import families

GRAPH = families()
SIZES = GRAPH.num_entities, GRAPH.num_relations


def assert_same(one: KnownTriples, other: KnownTriples) -> None:
    for first, second in ((one.tails, other.tails), (one.heads, other.heads)):
        for part in ("query", "offset", "answer"):
            assert torch.equal(getattr(first, part), getattr(second, part))


def test_facts_are_kept_and_read_again(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "facts.safetensors"
    plain = cached_facts(GRAPH.train, *SIZES, None)
    assert_same(cached_facts(GRAPH.train, *SIZES, file), plain)
    [only] = file.parent.iterdir()
    assert only == file
    monkeypatch.setattr(KnownTriples, "of", None)  # nothing is sorted anew
    assert_same(cached_facts(GRAPH.train, *SIZES, file), plain)


def test_facts_of_other_triples_are_not_taken(tmp_path, caplog):
    file = tmp_path / "facts.safetensors"
    cached_facts(GRAPH.train, *SIZES, file)
    with caplog.at_level(logging.INFO, logger="advkge"):
        found = cached_facts(GRAPH.train.flip(0)[1:], *SIZES, file)
    assert_same(found, cached_facts(GRAPH.train[:-1], *SIZES, None))
    [record] = caplog.records
    assert record.getMessage() == f"index of known facts {file} was made from other sources: making it again"


def test_a_damaged_file_is_said_and_made_again(tmp_path, caplog):
    file = tmp_path / "facts.safetensors"
    plain = cached_facts(GRAPH.train, *SIZES, None)
    cached_facts(GRAPH.train, *SIZES, file)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.INFO, logger="advkge"):
        assert_same(cached_facts(GRAPH.train, *SIZES, file), plain)
    [record] = caplog.records
    assert record.getMessage().startswith(f"index of known facts {file} is damaged (")
