"""The graph of `benchmarks.large_graph` is the one that was asked for, and the reader takes it."""

import sys

import numpy as np
import pytest

from benchmarks import large_graph
from graph.reading import read_folder


def make(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["large_graph", *words])
    large_graph.main()


def test_its_tails_follow_from_clusters_and_its_degrees_from_a_power_law(tmp_path, monkeypatch):
    monkeypatch.setattr(large_graph, "_PIECE", 4000)
    make(monkeypatch, str(tmp_path), "--entities=2000", "--triples=10000", "--relations=3", "--clusters=20")
    graph = read_folder(str(tmp_path), cache=None)
    assert len(graph.train) == 10_000
    id_of = np.array([int(name) for name in graph.entity_names])
    head, tail = (id_of[graph.train[:, side].numpy()] for side in (0, 2))
    for relation in range(3):
        chosen = graph.train[:, 1].numpy() == relation
        shift = np.bincount((tail - head)[chosen] % 20, minlength=20)
        assert shift.max() > 0.85 * chosen.sum()
    degree = np.bincount(head, minlength=2000)
    assert degree[:200].sum() > 2.5 * degree[1000:1200].sum()
    assert head.max() < 2000


def test_pieces_do_not_depend_on_each_other(tmp_path, monkeypatch):
    for name in "ab":
        make(monkeypatch, str(tmp_path / name), "--entities=500", "--triples=1000", "--clusters=20")
    a, b = ((tmp_path / name / "train-00000-of-00001.parquet").read_bytes() for name in "ab")
    assert a == b


def test_options_out_of_range_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        make(monkeypatch, str(tmp_path), "--entities=5", "--clusters=20")
    assert "--clusters must be from 1 to --entities (5), got 20" in capsys.readouterr().err
