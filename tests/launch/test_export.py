"""What export.py writes is enough to compute the model's scores with numpy alone."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore

from launch import evaluate, export
from launch.build import Run, build_run
from tests.configs import CONF, composed
from tests.plain_scores import FORMULAS
from tests.worlds import batch_of
from trainer.runtime import Runtime

YAMLS = sorted(path.stem for path in (CONF / "discriminator").glob("*.yaml"))
# Dimensions and options that make a small model.
SMALL = {"conve": ["discriminator.scoring.height=2", "discriminator.scoring.kernel=2"]}


def make_run(*overrides: str) -> Run:
    config = composed("train", "graph.num_people=100", "discriminator.dim=8", *overrides)
    return build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0))


def read_names(path: Path) -> list[str]:
    lines = [line.split("\t") for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    assert [int(line[0]) for line in lines] == list(range(len(lines)))
    return [line[1] for line in lines]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMULAS)
def test_numpy_gives_the_model_s_scores(name, dtype, tmp_path):
    norm = ["discriminator.scoring.norm=2"] if name in ("transe", "transd") and dtype == "float64" else []
    run = make_run(f"discriminator={name}", f"dtype={dtype}", *norm, *SMALL.get(name, []))
    export.write_export(run, Path("step_1"), tmp_path)

    model = json.loads((tmp_path / "model.json").read_text())
    tables = {path.stem: np.load(path, allow_pickle=False) for path in tmp_path.glob("*.npy")}
    assert {f"{name}.npy": list(table.shape) for name, table in tables.items()} == model["files"]
    assert {str(table.dtype) for table in tables.values()} == {model["dtype"]} == {dtype}
    head, relation, tail = run.graph.test[:50].T.numpy()
    of_entity = {name: table for name, table in tables.items() if name.startswith("entity")}
    of_relation = {name: table for name, table in tables.items() if name.startswith("relation")}
    model |= {name: table for name, table in tables.items() if name not in {*of_entity, *of_relation}}

    def row(tables, number):
        return {name: table[number].astype(np.float64) for name, table in tables.items()}

    scores = np.array(
        [
            FORMULAS[name](row(of_entity, h), row(of_relation, r), row(of_entity, t), model)
            for h, r, t in zip(head, relation, tail, strict=True)
        ]
    )
    discriminator = run.discriminator
    expected = discriminator.scoring.score(
        discriminator.entity(run.graph.test[:50, 0]),
        discriminator.scorer.relation_rows(run.graph.test[:50, 1]),
        discriminator.entity(run.graph.test[:50, 2]),
    )
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9}
    np.testing.assert_allclose(scores, expected.detach().numpy(), **tolerance)
    assert scores.std() > 0


@pytest.mark.parametrize("name", YAMLS)
def test_model_says_in_words_how_to_score(name, tmp_path):
    run = make_run(f"discriminator={name}", *SMALL.get(name, []))
    export.write_export(run, Path("step_1"), tmp_path)
    model = json.loads((tmp_path / "model.json").read_text())
    assert model["scoring_function"].lower() == name.replace("_", "")
    assert model["higher_is_more_plausible"] is True
    assert model["score"].startswith(model["scoring_function"])
    assert re.search(r"\)[:.] ", model["score"])  # the paper, then the formula
    shared = run.discriminator.scoring.state_dict()
    for file in shared:  # what no row holds is named, so that a reader knows what it is
        assert f"{file}.npy" in model["files"]
        assert f"`{file}`" in model["score"]


def test_reciprocal_relations_rank_heads_as_tails(tmp_path):
    run = make_run("discriminator=complex", "dtype=float64", "discriminator.reciprocal=true")
    export.write_export(run, Path("step_1"), tmp_path)
    model = json.loads((tmp_path / "model.json").read_text())
    names = list(run.graph.relation_names)
    assert read_names(tmp_path / "relations.tsv") == [*names, *(f"{name}_reciprocal" for name in names)]
    assert (model["reciprocal"], model["num_relations"]) == (True, 2 * run.graph.num_relations)
    entity, relation = np.load(tmp_path / "entity.npy"), np.load(tmp_path / "relation.npy")
    assert len(relation) == 2 * len(names)
    # The scores of all heads of a fact, by which the evaluator ranks them.
    fact = run.graph.test[:1]
    batch = batch_of(fact, heads=1)
    (_, r, t), heads = fact[0].tolist(), torch.arange(run.graph.num_entities)[None]
    found = run.discriminator.score_candidates(batch, heads)[0].detach().numpy()
    expected = [
        FORMULAS["complex"]({"entity": entity[t]}, {"relation": relation[r + len(names)]}, {"entity": e}, model)
        for e in entity
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_names_stay_on_their_line(tmp_path):
    run = make_run()
    odd = ["a\tb", "two\nlines", "back\\slash", "carriage\rreturn", "na\u00efve\u2028\u00e9"]
    names = [*odd, *run.graph.entity_names[len(odd) :]]
    run = dataclasses.replace(run, graph=dataclasses.replace(run.graph, entity_names=names))
    export.write_export(run, Path("step_1"), tmp_path)
    written = read_names(tmp_path / "entities.tsv")
    assert written[:5] == ["a\\tb", "two\\nlines", "back\\\\slash", "carriage\\rreturn", "na\u00efve\u2028\u00e9"]
    assert written[5:] == names[5:]
    assert read_names(tmp_path / "relations.tsv") == list(run.graph.relation_names)


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
