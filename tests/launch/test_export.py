"""What export.py writes is enough to compute the model's scores with numpy alone."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from launch import evaluate, export, schema
from launch.build import Run, build_run
from trainer.runtime import Runtime

CONF = Path(__file__).parents[2] / "conf"
Tables = dict[str, np.ndarray]


def transe(h: Tables, r: Tables, t: Tables, model: dict) -> np.ndarray:
    return -np.linalg.norm(h["entity"] + r["relation"] - t["entity"], ord=model["norm"], axis=1)


def transd(h: Tables, r: Tables, t: Tables, model: dict) -> np.ndarray:
    def mapped(e: Tables) -> np.ndarray:
        return e["entity"] + (e["entity_transfer"] * e["entity"]).sum(1, keepdims=True) * r["relation_transfer"]

    return -np.linalg.norm(mapped(h) + r["relation"] - mapped(t), ord=model["norm"], axis=1)


def distmult(h: Tables, r: Tables, t: Tables, model: dict) -> np.ndarray:
    return (h["entity"] * r["relation"] * t["entity"]).sum(1)


def as_complex(rows: np.ndarray) -> np.ndarray:
    half = rows.shape[1] // 2
    return rows[:, :half] + 1j * rows[:, half:]


def complex_(h: Tables, r: Tables, t: Tables, model: dict) -> np.ndarray:
    return (as_complex(h["entity"]) * as_complex(r["relation"]) * as_complex(t["entity"]).conj()).sum(1).real


def rotate(h: Tables, r: Tables, t: Tables, model: dict) -> np.ndarray:
    turned = as_complex(h["entity"]) * np.exp(1j * r["relation"])
    return -np.abs(turned - as_complex(t["entity"])).sum(1)


SCORES: dict[str, Callable[[Tables, Tables, Tables, dict], np.ndarray]] = {
    "transe": transe,
    "transd": transd,
    "distmult": distmult,
    "complex": complex_,
    "rotate": rotate,
}


def make_run(monkeypatch, *overrides: str) -> Run:
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["graph.num_people=100", "discriminator.dim=8", *overrides])
    return build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0))


def read_names(path: Path) -> list[str]:
    lines = [line.split("\t") for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    assert [int(line[0]) for line in lines] == list(range(len(lines)))
    return [line[1] for line in lines]


def test_every_scoring_function_is_tested():
    assert {path.stem for path in (CONF / "discriminator").glob("*.yaml")} == set(SCORES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCORES)
def test_numpy_gives_the_model_s_scores(name, dtype, monkeypatch, tmp_path):
    norm = ["discriminator.scoring.norm=2"] if name.startswith("trans") and dtype == "float64" else []
    run = make_run(monkeypatch, f"discriminator={name}", f"dtype={dtype}", *norm)
    export.write_export(run, Path("step_1"), tmp_path)

    model = json.loads((tmp_path / "model.json").read_text())
    tables = {path.stem: np.load(path, allow_pickle=False) for path in tmp_path.glob("*.npy")}
    assert {f"{name}.npy": list(table.shape) for name, table in tables.items()} == model["files"]
    assert {str(table.dtype) for table in tables.values()} == {model["dtype"]} == {dtype}
    head, relation, tail = run.graph.test[:50].T.numpy()
    of_entity = {name: table for name, table in tables.items() if name.startswith("entity")}
    of_relation = {name: table for name, table in tables.items() if name.startswith("relation")}
    h, r, t = (
        {name: table[ids] for name, table in kind.items()}
        for kind, ids in ((of_entity, head), (of_relation, relation), (of_entity, tail))
    )
    discriminator = run.discriminator
    expected = discriminator.scoring.score(
        discriminator.entity(run.graph.test[:50, 0]),
        discriminator.scorer.relation_rows(run.graph.test[:50, 1]),
        discriminator.entity(run.graph.test[:50, 2]),
    )
    scores = SCORES[name](h, r, t, model)
    np.testing.assert_allclose(scores, expected.detach().numpy(), rtol=1e-4 if dtype == "float32" else 1e-9)
    assert scores.std() > 0


@pytest.mark.parametrize("name", SCORES)
def test_model_says_in_words_how_to_score(name, monkeypatch, tmp_path):
    run = make_run(monkeypatch, f"discriminator={name}")
    export.write_export(run, Path("step_1"), tmp_path)
    model = json.loads((tmp_path / "model.json").read_text())
    assert model["scoring_function"].lower() == name
    assert model["higher_is_more_plausible"] is True
    assert model["score"].startswith(model["scoring_function"])
    assert "): " in model["score"]  # the paper, then the formula


def test_names_stay_on_their_line(monkeypatch, tmp_path):
    run = make_run(monkeypatch)
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
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = command(export, f"run={finished}", "out=out")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "error: export runs in one process; type: python launch/export.py" in outcome.errors


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
