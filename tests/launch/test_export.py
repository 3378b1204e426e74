"""launch/export.py: what it accepts, refuses and replaces."""

import errno
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore

from launch import evaluate, export, train
from launch.parts import instantiate
from tests.configs import composed

DOC = (Path(__file__).parents[2] / "docs" / "exporting.md").read_text()


def test_exports_a_run_and_replaces_an_earlier_export(command, finished, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    outcome = command(export, f"run={finished}", f"out={out}")
    assert outcome.code == 0, outcome.errors
    names = {"entity.npy", "relation.npy", "entities.tsv", "relations.tsv", "model.json"}
    assert {path.name for path in out.iterdir()} == names
    best = json.loads((finished / "checkpoints" / "best_adversarial.json").read_text())["checkpoint"]
    assert json.loads((out / "model.json").read_text())["checkpoint"] == best
    first = np.load(out / "entity.npy")

    assert command(export, f"run={finished}", f"out={out}", "checkpoint=best_pretrain_discriminator").code == 0
    assert not np.array_equal(np.load(out / "entity.npy"), first)
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_never_replaces_what_is_no_export(command, finished, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    outcome = command(export, f"run={finished}", f"out={tmp_path}")
    assert outcome.code == 1
    assert outcome.errors.startswith("error: out must be a new or empty folder or an earlier export, but ")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_runs_in_one_process(command, finished, tmp_path, monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # the launcher's
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", store.port)):
        monkeypatch.setenv(name, str(value))
    outcome = command(export, f"run={finished}", "out=out")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert f"error: export runs in one process; type: python {export.__file__} " in outcome.errors


@pytest.mark.parametrize("module", [export, evaluate])
def test_says_which_key_is_missing(module, command):
    out = ["out=out"] if module is export else []
    outcome = command(module, *out)
    assert (outcome.code, outcome.errors) == (
        1,
        "error: run must be a run folder, as in run=outputs/..., it is not given\n",
    )


def test_out_must_be_given(command, finished):
    outcome = command(export, f"run={finished}")
    assert (outcome.code, outcome.errors) == (
        1,
        "error: out must be the folder to write, as in out=exported, it is not given\n",
    )


def test_any_format_replaces_any_other(command, finished, tmp_path):
    for form in (*export.FORMATS, "npy"):
        outcome = command(export, f"run={finished}", f"out={tmp_path / 'out'}", f"format={form}")
        assert (outcome.code, outcome.errors) == (0, "")
        model = json.loads((tmp_path / "out" / "model.json").read_text())
        assert model["scoring_function"] == "TransE"
        assert [file for file in model["files"] if not (tmp_path / "out" / file).exists()] == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("entity.npy", "relation.npy", "entities.tsv", "relations.tsv", "model.json")
    }


def test_a_format_must_be_one_of_them(command, finished):
    outcome = command(export, f"run={finished}", "out=out", "format=csv")
    assert (outcome.code, outcome.errors) == (
        1,
        "error: format must be one of npy, word2vec, parquet, projector, pykeen, got 'csv'\n",
    )


def test_each_format_is_explained():
    assert re.findall(r"^## `format=(\w+)`", DOC, flags=re.MULTILINE) == list(export.FORMATS)


def test_a_full_disk_leaves_the_earlier_export(command, finished, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert command(export, f"run={finished}", "out=out").code == 0
    monkeypatch.setitem(export.FORMATS, "npy", full)
    outcome = command(export, f"run={finished}", "out=out")
    assert (outcome.code, outcome.errors) == (
        1,
        f"error: out: {tmp_path / 'out'} can't be written: No space left on device\n",
    )
    assert np.load("out/entity.npy").std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# Each is scored in its own way: L1, products, inverse relations, complex numbers.
PYKEEN = {
    "transe": ["discriminator.scoring.norm=1"],
    "distmult": [],
    "complex": ["discriminator.reciprocal=true"],
    "rotate": [],
}


@pytest.mark.parametrize("name", PYKEEN)
def test_pykeens_evaluator_finds_our_metrics(name, command, tiny_plain):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyKEEN imports
        from pykeen.evaluation import RankBasedEvaluator
        from pykeen.triples import TriplesFactory
    options = [f"discriminator={name}", *PYKEEN[name], "generator=uniform", "loss=softmax", "optimizer.lr=0.1"]
    assert (
        command(train, *tiny_plain, *options, "trainer.epochs=5", "trainer.valid_every=5", "hydra.run.dir=run").code
        == 0
    )
    assert command(evaluate, "run=run", "split=test", "out=test.json").code == 0
    ours = json.loads(Path("test.json").read_text())["test"]
    outcome = command(export, "run=run", "out=exported", "format=pykeen")
    assert (outcome.code, outcome.errors) == (0, "")

    model = torch.load("exported/trained_model.pkl", weights_only=False)
    triples = TriplesFactory.from_path_binary("exported/training_triples")
    graph = instantiate(composed("train", *tiny_plain).graph)
    assert triples.entity_to_id == {name: number for number, name in enumerate(graph.entity_names)}
    assert triples.mapped_triples.equal(graph.train)
    theirs = RankBasedEvaluator(filtered=True).evaluate(
        model, graph.test, additional_filter_triples=[graph.train, graph.valid], use_tqdm=False
    )
    for side in ("head", "tail", "both"):
        found = theirs.get_metric(f"{side}.realistic.inverse_harmonic_mean_rank")
        assert found == pytest.approx(ours[side]["mrr"], abs=1e-4)
        assert theirs.get_metric(f"{side}.realistic.hits_at_10") == pytest.approx(ours[side]["hits@10"], abs=1e-4)
    assert ours["both"]["mrr"] > 0.06  # chance is .042
