"""scorecard.py as a user runs it, and what it makes of the folders of its cells."""

import csv
import io
import os
import re
import signal
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from graph.errors import InputError
from launch import evaluate, schema, scorecard
from launch.budget import epochs_within
from launch.cells import last_of_each, plan, read_record
from reporting.scorecard_columns import FIGURES
from tests.scorecard_cells import make_cell
from tests.warm_start import WarmPopen, children_of, wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "scorecard.py"
TINY = (
    "graph.num_people=100",
    "discriminator.dim=8",
    "generator.num_negatives=4",
    "trainer.batch_size=256",
    "quality.positives=20",
    "quality.draws=12",
    "scorecard.validations=2",
    "scorecard.entries.kbgan=['generator=kbgan','generator.pool_size=8','generator.dim=8']",
    "launch.device=cpu",
)


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(io.StringIO((folder / "scorecard.csv").read_text()))
    return {row["sampler"]: row for row in rows}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["scorecard.generators=[]"], "scorecard.generators must name at least 1, got []"),
        (["scorecard.seeds=[]"], "scorecard.seeds must name at least 1, got []"),
        (
            ["scorecard.generators=[typo]"],
            r"generator=typo: there is no such generator; did you mean typed\? There are .*uniform",
        ),
        (["scorecard.discriminators=[typo]"], "discriminator=typo: there is no such discriminator"),
        (
            ["scorecard.generators=[uniform,uniform]"],
            r"scorecard.generators must not name anything twice, got .*uniform",
        ),
        (["scorecard.seeds=[1,1]"], r"scorecard.seeds must not name anything twice, got \[1, 1\]"),
        (["scorecard.num_negatives=[]"], "scorecard.num_negatives must name at least 1, got []"),
        (["scorecard.num_negatives=[2,2]"], r"scorecard.num_negatives must not name anything twice, got \[2, 2\]"),
        (["scorecard.num_negatives=[4,0]"], r"scorecard.num_negatives must be at least 1 each, got \[4, 0\]"),
        (
            ["scorecard.num_negatives=[4]", "generator.num_negatives=4"],
            "generator.num_negatives: a scorecard takes scorecard.num_negatives instead",
        ),
        (
            ["scorecard.num_negatives=[4]", "scorecard.generators=[uniform,in_batch]"],
            "scorecard.num_negatives: in_batch has no option generator.num_negatives; leave in_batch out",
        ),
        (["scorecard.epochs=3"], "scorecard: one of budget and epochs must be given and the other null, got .* and 3"),
        (["scorecard.budget=null"], "scorecard: one of budget and epochs must be given .* got None and None"),
        (["scorecard.budget=0"], "scorecard.budget must be at least 1, got 0"),
        (["scorecard.validations=0"], "scorecard.validations must be at least 1, got 0"),
        (
            ["generator=uniform"],
            r"generator: a scorecard takes scorecard.generators=\[...\] instead, got generator=uni",
        ),
        (["trainer.epochs=3"], "trainer.epochs: a scorecard takes scorecard.budget or scorecard.epochs instead"),
        (["trainer.valid_every=3"], "trainer.valid_every: a scorecard takes scorecard.validations instead"),
        (["experiment=demo"], "experiment: a scorecard takes scorecard.common or scorecard.entries instead"),
        (["launch.ranks=0"], "launch.ranks must be at least 1, got 0"),
        (["quality=null"], "quality must not be null: a scorecard shows what it measures; leave quality out"),
        (
            ["scorecard.folders=[nowhere]"],
            "scorecard.folders: nowhere holds no cell of a scorecard and no run of a sweep",
        ),
        (["scorecard.common=['loss.gama=1']"], "gama"),
        (["discriminator.dimm=3"], "dimm"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_one_line_says_what_is_wrong_before_anything_runs(wrong, message, command):
    outcome = command(scorecard, *wrong, "hydra.run.dir=run")
    assert outcome.code == 1
    assert re.fullmatch(r"error: .*\n", outcome.errors), outcome.errors
    assert re.search(message.replace("[]", r"\[\]"), outcome.errors), outcome.errors
    assert not Path("run/cells").exists()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_graph_without_a_split_that_a_scorecard_needs_ends_it_before_anything_runs(split, command, tmp_path):
    for number, name in enumerate(each for each in ("train", "valid", "test") if each != split):
        (tmp_path / f"{name}.txt").write_text(f"e{number}\tr0\te2\n")
    options = ["graph=folder", f"graph.path={tmp_path}", "scorecard.generators=[uniform]", "launch.device=cpu"]
    outcome = command(scorecard, *options, "hydra.run.dir=run")
    assert outcome.code == 1
    said = f"error: a scorecard compares samplers by both: {tmp_path.name} has no {split} triples\n"
    assert outcome.errors == said
    assert not Path("run/cells").exists()


def test_of_several_values_the_last_is_taken():
    lines = ["loss=softmax", "trainer.epochs=1", "+loss.x=2", "loss=log_sigmoid", "loss.x=3"]
    assert last_of_each(lines) == ["loss=log_sigmoid", "trainer.epochs=1", "loss.x=3"]


@pytest.mark.parametrize(("generator", "taken"), [("uniform", True), ("in_batch", False), ("hasa", False)])
def test_a_generator_gets_only_options_that_it_has(composing, tmp_path, generator: str, taken: bool):
    typed = [f"scorecard.generators=[{generator}]"]
    config = compose("scorecard", typed)
    (cell,) = plan(config, typed, {"graph": "umls", "discriminator": "transe", "quality": "sampled"}, tmp_path)
    assert ("generator.num_negatives=16" in cell.options) == taken
    assert "discriminator.dim=64" in cell.options


def test_a_cell_for_each_number_of_negatives(composing, tmp_path):
    pools = "scorecard.entries.kbgan=['generator=kbgan','generator.pool_size=${generator.num_negatives}']"
    typed = ["scorecard.generators=[uniform,kbgan]", "scorecard.num_negatives=[1,8]", "scorecard.seeds=[0,1]", pools]
    config = compose("scorecard", typed)
    cells = plan(config, typed, {"graph": "umls", "discriminator": "transe", "quality": "sampled"}, tmp_path)
    assert len({cell.folder for cell in cells}) == 8
    assert [cell.num_negatives for cell in cells] == [1, 1, 8, 8] * 2
    for cell in cells:
        generator = compose("train", [line for line in cell.options if not line.startswith("typed")]).generator
        assert generator.num_negatives == cell.num_negatives
        assert cell.sampler != "kbgan" or generator.pool_size == cell.num_negatives


@pytest.fixture
def composing(monkeypatch):
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


SMALL_RUN = ("recipe=none", "graph.num_people=100", "discriminator.dim=4", "trainer.batch_size=256")


def train_facts() -> int:
    from launch.parts import instantiate

    return len(instantiate(compose("train", [*SMALL_RUN]).graph).train)


def test_epochs_follow_from_what_is_scored(composing):
    facts = train_facts()
    config = compose("train", [*SMALL_RUN, "generator=uniform", "generator.num_negatives=4"])
    assert epochs_within(config, 4 * facts * 7) == 7
    assert epochs_within(config, 4 * facts * 8 - 1) == 7
    assert epochs_within(config, 4 * facts) == 1
    with pytest.raises(InputError, match=f"scorecard.budget must allow one epoch, which scores {4 * facts} .* got 5"):
        epochs_within(config, 5)


def test_a_curriculum_spends_at_most_the_budget(composing):
    facts = train_facts()
    hard = ["generator.hard.pool_size=8", "generator.hard.dim=4", "pretrain.generator.epochs=0"]
    options = ["generator=curriculum", "generator.num_negatives=4", "generator.steps=10", *hard]
    config = compose("train", [*SMALL_RUN, *options, "pretrain.discriminator.epochs=0"])
    # At its end all four negatives are draws from a pool of eight that a model scores; at first none are.
    assert epochs_within(config, facts * (8 + 4) * 7) == 7


def test_pretraining_and_pools_are_part_of_the_budget(composing):
    facts = train_facts()
    options = ["generator=kbgan", "generator.num_negatives=2", "generator.pool_size=8", "generator.dim=4"]
    config = compose("train", [*SMALL_RUN, *options])
    # Eleven epochs with a pool and two draws; a fifth, rounded up, with the 19 and 1 negatives of pretrain/kbgan.yaml.
    whole = facts * (11 * (8 + 2) + 3 * (19 + 1))
    assert epochs_within(config, whole) == 11
    assert epochs_within(config, whole - 1) == 10


@pytest.fixture
def made(tmp_path) -> Path:
    for sampler, mrrs in (("uniform", (0.2, 0.3)), ("kbgan", (0.4, 0.5)), ("broken", (None, None))):
        for seed, mrr in enumerate(mrrs):
            make_cell(tmp_path, sampler, seed, mrr)
    return tmp_path


def test_folders_are_put_together(made, command):
    outcome = command(
        scorecard, f"scorecard.folders=[{made / 'cells/uniform-transe-synthetic-0'},{made}]", "hydra.run.dir=all"
    )
    assert outcome.code == 0, outcome.errors
    assert "transe on synthetic" in outcome.output
    assert set(rows_of(Path("all"))) == {"uniform", "kbgan", "broken"}
    assert {"scorecard.csv", "scorecard.md", "scorecard.html", "plots"} <= {path.name for path in Path("all").iterdir()}


@pytest.mark.usefixtures("warm")
def test_a_scorecard_lists_failures_and_runs_what_is_left(command, tmp_path):
    options = [
        *TINY,
        "scorecard.generators=[self_adversarial,broken,kbgan]",
        "+scorecard.entries.broken=['generator=uniform','generator.num_negatives=0']",
        "scorecard.budget=3e5",
        "hydra.run.dir=run",
    ]
    folder = tmp_path / "run"
    outcome = command(scorecard, *options)
    assert outcome.code == 1
    assert outcome.errors.count("error: ") == 1
    assert (
        "error: broken, transe, synthetic, seed 0: generator.num_negatives must be at least 1, got 0" in outcome.errors
    )
    rows = rows_of(folder)
    assert list(rows) == ["self_adversarial", "broken", "kbgan"]
    assert rows["broken"]["error"] == "generator.num_negatives must be at least 1, got 0"
    for name in ("self_adversarial", "kbgan"):
        assert 1.5e5 < float(rows[name]["candidates"]) <= 3e5
        assert 0 < float(rows[name]["valid_mrr"]) < 1
        assert 0.3 < float(rows[name]["hardness"]) < 1
    assert rows["self_adversarial"]["epochs"] > rows["kbgan"]["epochs"]
    assert "1 of 3 runs failed" in (folder / "scorecard.html").read_text()

    # A cell is an ordinary run.
    cells = folder / "cells"
    cell = cells / "kbgan-transe-synthetic-0"
    ranked = command(evaluate, f"run={cell}", "split=valid")
    assert ranked.code == 0, ranked.errors
    assert f"{float(rows['kbgan']['valid_mrr']):.4f}" in ranked.output

    # Nothing that was finished runs again, only what failed; with other options nothing runs at all.
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    mended = [line.replace("num_negatives=0", "num_negatives=2") for line in options]
    assert command(scorecard, *mended).code == 0
    assert 0 < float(rows_of(folder)["broken"]["valid_mrr"]) < 1
    (cells / "broken-transe-synthetic-0/result.json").unlink()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == stamps
    other = command(scorecard, *mended, "optimizer.lr=0.5")
    assert re.fullmatch(r"error: hydra.run.dir: .* other options \(optimizer.lr=0.5\); .*\n", other.errors)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_killed_cell_is_listed_and_goes_on(environment, command, tmp_path):
    options = [*TINY, "scorecard.budget=null", "scorecard.epochs=80", "trainer.checkpoint_minutes=0.001"]
    options += ["scorecard.validations=3"]
    unbroken = command(scorecard, *options, "scorecard.generators=[bernoulli]", "hydra.run.dir=unbroken")
    assert unbroken.code == 0, unbroken.errors
    cells = tmp_path / "run/cells"
    options += ["scorecard.generators=[uniform,bernoulli]", "hydra.run.dir=run"]
    words = ["python", str(SCRIPT), *options]
    with (tmp_path / "said").open("w") as said, WarmPopen(words, stdout=said, env=environment) as killed:
        wait_until((cells / "uniform-transe-synthetic-0/checkpoints/latest.json").exists)
        os.kill(children_of(killed)[0], signal.SIGKILL)
        wait_until((cells / "bernoulli-transe-synthetic-0/checkpoints/latest.json").exists)
        killed.send_signal(signal.SIGTERM)
    assert killed.returncode == 128 + signal.SIGTERM
    assert "stopped by signal 15" in (tmp_path / "said").read_text()
    assert read_record(cells / "uniform-transe-synthetic-0")["error"] == "killed by SIGKILL"
    assert "killed by SIGKILL" in (tmp_path / "run/scorecard.md").read_text()
    assert not list((tmp_path / "run").rglob("result.json"))

    again = command(scorecard, *options)
    assert again.code == 0, again.errors
    for name in ("uniform", "bernoulli"):
        assert "resumed from" in (cells / f"{name}-transe-synthetic-0/log.txt").read_text()
    expected, found = rows_of(tmp_path / "unbroken")["bernoulli"], rows_of(tmp_path / "run")
    measured = [key for key in FIGURES if key not in {"seconds", "step_ms", "peak_mb"}]
    assert [found["bernoulli"][key] for key in measured] == [expected[key] for key in measured]
    assert found["uniform"]["epochs"] == expected["epochs"]


@pytest.mark.usefixtures("warm")
def test_sweeps_over_ranks_and_puts_seeds_together(command, tmp_path):
    options = [*TINY, "scorecard.generators=[uniform]", "scorecard.budget=null", "scorecard.epochs=2"]
    outcome = command(scorecard, "--multirun", *options, "launch.ranks=1,2", "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.errors
    assert command(scorecard, *options, "seed=1", "hydra.run.dir=sweep/2").code == 0
    one, two, other = rows = [rows_of(tmp_path / "sweep" / str(job))["uniform"] for job in range(3)]
    assert [(row["seed"], row["ranks"]) for row in rows] == [("0", "1"), ("0", "2"), ("1", "1")]
    for key in ("candidates", "known_true", "distinct", "coverage", "nce_error", "entropy"):
        assert float(one[key]) == pytest.approx(float(two[key]), rel=1e-9), key
    for key in ("valid_mrr", "hardness", "active"):
        assert float(one[key]) == pytest.approx(float(two[key]), abs=2e-3), key
    assert other["entropy"] != one["entropy"]
    assert command(scorecard, "scorecard.folders=[sweep]", "hydra.run.dir=together").code == 0
    table = Path("together/scorecard.md").read_text()
    assert "transe on synthetic\n" in table
    assert "transe on synthetic, 2 ranks" in table
    assert len(re.findall(r"\| uniform +\| +2 \| .* ± ", table)) == 1
