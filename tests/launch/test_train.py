"""train.py as a user runs it: what a run leaves, sweeps, ranks, resuming, and what it says of a wrong option."""

import csv
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch.distributed import TCPStore

from launch import train

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "train.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
METRICS = {"mrr", "mean_rank", "hits@1", "hits@3", "hits@10", "count"}


def metrics_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder: Path) -> list[float]:
    return [line["loss"] for line in metrics_of(folder) if "loss" in line]


def test_run_folder(finished):
    assert {"config.yaml", "metrics.jsonl", "result.json", "checkpoints"} <= {path.name for path in finished.iterdir()}
    config = OmegaConf.load(finished / "config.yaml")
    assert config.graph.num_people == 100
    assert "${" not in (finished / "config.yaml").read_text()
    result = json.loads((finished / "result.json").read_text())
    keys = {"valid", "test", "best_step", "steps", "seconds", "triples_per_second", "seed", "world_size"}
    assert keys <= set(result)
    for split in ("valid", "test"):
        assert all(set(result[split][side]) >= METRICS for side in ("both", "head", "tail"))
    assert (result["seed"], result["world_size"]) == (0, 1)
    assert 0 < result["best_step"] <= result["steps"]


def test_metrics_by_line(finished):
    lines = metrics_of(finished)
    assert all({"step", "epoch", "stage"} <= set(line) for line in lines)
    assert list(dict.fromkeys(line["stage"] for line in lines)) == [
        "pretrain_generator",
        "pretrain_discriminator",
        "adversarial",
    ]
    steps = [line for line in lines if "loss" in line]
    assert {"generator/reward", "negatives/known_true", "negatives/hidden_true"} <= set(steps[-1])
    assert [line["step"] for line in steps] == list(range(2, 2 * len(steps) + 1, 2))  # trainer.log_every=2
    result = json.loads((finished / "result.json").read_text())
    best = max(line["valid/mrr"] for line in lines if line["stage"] == "adversarial" and "valid/mrr" in line)
    assert result["valid"]["both"]["mrr"] == pytest.approx(best)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            ["generator=curriculum", "generator.share=0.5"],
            "generator.share must be a list, as in generator.share=[1,2], got 0.5",
        ),
        (
            ["generator=mixture", "generator.parts.hard=typed"],
            "generator.parts.hard must be chosen from a group, generator@generator.parts.hard=typed, got 'typed'",
        ),
    ],
)
def test_what_is_no_list_and_no_sampler_is_said(wrong, message, command, tiny_plain):
    outcome = command(train, *tiny_plain, *wrong, "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.errors == f"error: {message}\n"


def test_nothing_but_the_table_on_stdout(command, tiny_plain):
    # A null undoes what was chosen before, as in a folder that is resumed.
    choices = ["generator=uniform", "tracker=wandb", "tracker=null"]
    outcome = command(train, *tiny_plain, *choices, "trainer.epochs=1", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    lines = outcome.output.splitlines()
    assert lines[0].startswith("filtered, realistic ties")
    assert [line.split()[:2] for line in lines[1:7]] == [
        [s, k] for s in ("valid", "test") for k in ("both", "head", "tail")
    ]
    assert [line.split()[-1] for line in lines[1:7]] == [*["train+valid"] * 3, *["train+valid+test"] * 3]
    assert lines[7] == "of the model after epoch 1 of 1: the best by valid/mrr"
    assert lines[8] == f"run folder: {Path('run').resolve()}"
    assert outcome.errors == ""  # no progress bar off a terminal


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (["generator=typo"], ["generator", "typo", "kbgan"]),
        (["graph=typo"], ["graph", "typo", "synthetic"]),
        (["trainer.epoch=3"], ["epoch"]),
        (["trainer.batch_size=many"], ["batch_size", "many"]),
        (["discriminator.dim=-1"], ["discriminator", "dim must be at least 1", "-1"]),
        (["discriminator.norm=1"], ["norm"]),
        (["discriminator=rotate", "discriminator.dim=7"], ["discriminator", "even", "7"]),
        (["discriminator.scoring.norm=3"], ["discriminator.scoring.norm must be 1 or 2, got 3"]),
        (
            ["discriminator=conve", "discriminator.scoring.height=3"],
            ["discriminator.scoring.height must divide dim, which is 8, got 3"],
        ),
        (["typed=5"], ["typed must be a list", "got 5"]),
        (["trainer.epochs=1e400"], ["trainer.epochs must be an integer, got 1e400"]),
        (["graph=folder"], ["graph.path must name the folder of your triples, as in graph.path=DIR, got null"]),
        (
            ["discriminator=hake", "discriminator.scoring.phase_weight=-0.5"],
            ["discriminator.scoring.phase_weight must be at least 0", "-0.5"],
        ),
        (["launch.timeout_seconds=nan"], ["launch.timeout_seconds must be above 0", "nan"]),
        (["launch.timeout_seconds=0"], ["launch.timeout_seconds must be above 0", "0"]),
        (["term=[n4]"], ["term=n4", "there are l2, n3, relation_prediction"]),
        (["generator.dim=0"], ["generator", "dim must be at least 1", "0"]),
        (["generator.pool_size=100000"], ["generator.pool_size", "entities", "100000"]),
        (["generator.temperature=0.0"], ["generator.temperature", "positive", "0"]),
        (
            ["generator.baseline.decay=2.0", "baseline@generator.baseline=running_mean"],
            ["generator.baseline.decay", "2"],
        ),
        (["baseline@generator.baseline=leave_one_out"], ["generator.num_negatives", "at least 2", "1"]),
        (["loss.margin=-1.0"], ["loss", "margin", "-1"]),
        (["optimizer.lr=0.0"], ["optimizer.lr", "positive", "0"]),
        (["trainer.batch_size=0"], ["trainer.batch_size", "0"]),
        (["trainer.chunk_size=7"], ["trainer.chunk_size", "256", "7"]),
        (["trainer.log_every=0"], ["trainer.log_every", "at least 1", "0"]),
        (["trainer.keep_checkpoints=0"], ["trainer.keep_checkpoints", "at least 1", "0"]),
        (["trainer.evaluation_memory_mb=0"], ["trainer.evaluation_memory_mb", "at least 1", "0"]),
        (["trainer.epochs=-1", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"], ["epochs", "-1"]),
        (["dtype=float16"], ["dtype must be one of float32, float64, bfloat16", "'float16'"]),
        (["launch.device=tpu"], ["launch.device must be auto, cpu or cuda", "'tpu'"]),
        (["launch.ranks=0"], ["launch.ranks must be at least 1", "0"]),
        (["graph.num_people=3"], ["graph", "num_people", "at least 100", "3"]),
        (["graph=wn18rr", "graph.root=nowhere"], ["wn18rr", "nowhere"]),
        (["graph=folder", "graph.path=nowhere"], ["graph", "nowhere"]),
        (["resume=nowhere"], ["resume", "nowhere"]),
        (["optimizer.lr=fast"], ["optimizer.lr must be a number, got 'fast'"]),
        (["generator.mask_known=7"], ["generator.mask_known must be true or false, got 7"]),
        (["discriminator.max_norm=big"], ["discriminator.max_norm must be a number or null, got 'big'"]),
        (["+loss.gamma=2"], ["loss.gamma", "has no such option; it has margin"]),
        (["pretrain.generator.checkpoint=nowhere"], ["pretrain.generator.checkpoint", "nowhere"]),
    ],
    ids=" ".join,
)
def test_one_line_says_what_is_wrong(wrong, names, command, tiny):
    # A graph from files has no number of people.
    options = [option for option in tiny if not (wrong[0].startswith("graph=") and option.startswith("graph."))]
    outcome = command(train, *options, *wrong, "hydra.run.dir=run")
    assert outcome.code == 1
    assert re.fullmatch(r"error: .*\n", outcome.errors), outcome.errors
    assert [name for name in names if name not in outcome.errors] == []
    assert outcome.output == ""
    assert not Path("run/result.json").exists()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("generator", ["pretrain.generator.epochs=0"]),
        ("discriminator", ["pretrain.discriminator.epochs=0"]),
        ("discriminator", ["pretrain=nearest"]),
    ],
)
def test_pretraining_that_nothing_describes_is_refused_with_advice_that_works(name, advice, command, tiny_plain):
    options = [*tiny_plain, "generator=uniform", "trainer.epochs=1", f"pretrain.{name}.epochs=1"]
    outcome = command(train, *options, "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.errors.startswith(f"error: pretrain.{name}.epochs is 1, but ")
    assert advice[0] in outcome.errors
    assert command(train, *options, *advice, "hydra.run.dir=other").code == 0


@pytest.mark.slow
def test_one_line_in_a_shell(shell, tiny, tmp_path):
    outcome = shell([SCRIPT, *tiny, "generator=typo", "hydra.run.dir=run"], folder=tmp_path)
    assert outcome.code == 1
    assert [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in outcome.errors + outcome.output
    assert len(outcome.errors.splitlines()) == 1


@pytest.mark.slow
def test_one_line_from_two_ranks(shell, tiny, tmp_path):
    outcome = shell([*TORCHRUN, SCRIPT, *tiny, "discriminator.dim=-1", "hydra.run.dir=run"], folder=tmp_path)
    assert outcome.code != 0
    ours = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1
    assert "dim must be at least 1, got -1" in ours[0]


@pytest.mark.usefixtures("warm")
def test_starts_ranks_of_its_own(command, tiny, finished, tmp_path):
    outcome = command(train, *tiny, "launch.ranks=2", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    alone = json.loads((finished / "result.json").read_text())
    assert result["world_size"] == 2
    assert result["test"]["both"]["mrr"] == pytest.approx(alone["test"]["both"]["mrr"], rel=1e-3)
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(finished), rel=1e-4)


@pytest.mark.usefixtures("warm")
def test_a_sweep_on_ranks_into_folders_named_by_their_options(command, tiny_plain, tmp_path):
    words = ["--multirun", *tiny_plain, "generator=uniform", "trainer.epochs=1", "launch.ranks=2", "seed=0,1"]
    where = ['hydra.sweep.dir="a=b, [Ü]"', "hydra.sweep.subdir=${hydra.job.override_dirname}"]
    outcome = command(train, *words, *where)
    assert outcome.code == 0, outcome.errors
    found = [path.parent.name for path in sorted((tmp_path / "a=b, [Ü]").glob("*/result.json"))]
    assert [name.partition("seed=")[2][:2] for name in found] == ["0,", "1,"]
    rows = list(csv.DictReader((tmp_path / "a=b, [Ü]" / "sweep.csv").read_text().splitlines()))
    assert [(row["run"], row["seed"], row["finished"]) for row in rows] == [(found[0], "0", "1"), (found[1], "1", "1")]


def test_a_part_of_a_mixture_needs_a_name_and_no_more(command, tiny_plain, tmp_path):
    words = ["generator=mixture", "generator@generator.parts.typical=typed", "generator.parts.typical.num_negatives=4"]
    words += ["~generator.parts.easy", "generator.parts.hard.num_negatives=2", "trainer.epochs=1"]
    outcome = command(train, *tiny_plain, *words, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    parts = OmegaConf.load(tmp_path / "run" / "config.yaml").generator.parts
    assert {name: part._target_.rpartition(".")[2] for name, part in parts.items()} == {
        "typical": "TypedSampler",
        "hard": "NSCachingSampler",
    }
    # A run that goes on has the same parts.
    assert command(train, "resume=run", "trainer.epochs=2").code == 0


@pytest.mark.usefixtures("warm")
def test_runs_of_a_sweep_describe_their_graph_once(command, tiny_plain):
    words = [*tiny_plain, "generator=uniform", "trainer.epochs=0", "seed=0,1", "hydra.sweep.dir=sweep"]
    outcome = command(train, "--multirun", "hydra/job_logging=default", *words)
    assert outcome.code == 0, outcome.errors
    for handler in logging.getLogger().handlers:  # of the last job, in this process
        handler.close()
    said = "".join(path.read_text() for path in sorted(Path("sweep").rglob("train.log")))
    assert said.count("family: 128 entities") == 2
    assert said.count("true but in no split") == 1


@pytest.mark.parametrize(("graph", "said"), [([], 1), (["graph=synthetic"], 0), (["graph.num_people=100"], 0)])
def test_a_run_without_a_graph_says_that_it_has_the_built_in_one(graph, said, command, caplog):
    caplog.set_level(logging.INFO, "launch.one_run")
    words = ["recipe=none", "generator=uniform", "trainer.epochs=0", "launch.device=cpu", "hydra.run.dir=run"]
    assert command(train, *words, *graph).code == 0
    lines = [line for line in caplog.messages if line.startswith("no graph was named, so this is graph=synthetic")]
    assert len(lines) == said
    assert all("graph=folder graph.path=DIR" in line for line in lines)


@pytest.mark.usefixtures("warm")
def test_a_failing_job_does_not_stop_a_sweep(command, tiny_plain, tmp_path):
    words = ["--multirun", *tiny_plain, "generator=uniform", "trainer.epochs=1", "discriminator.dim=-1,4"]
    outcome = command(train, *words, "hydra.sweep.dir=sweep")
    assert outcome.code == 1
    assert not (tmp_path / "sweep" / "0" / "result.json").exists()
    assert json.loads((tmp_path / "sweep" / "1" / "result.json").read_text())["steps"] > 0
    # The job has printed its own error.
    assert outcome.errors == f"error: 1 job of the sweep failed: {tmp_path / 'sweep' / '0'}\n"
    # The sweep ends with its table and its page.
    said = outcome.output.splitlines()
    assert said[-1] == f"page: {tmp_path / 'sweep' / 'sweep.html'}"
    assert said[-2] == "without a result: 0"
    assert (tmp_path / "sweep" / "sweep.html").is_file()


def test_torchrun_refuses_a_sweep(command, monkeypatch):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for key, value in {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(key, str(value))
    outcomes = [command(train, "--multirun", "generator=uniform,kbgan") for _ in range(2)]
    assert [outcome.code for outcome in outcomes] == [2, 2]
    said, nothing = (outcome.errors for outcome in outcomes)  # the second stands for the other rank
    assert said.startswith("error: torchrun can't run a sweep ")
    assert said.endswith("generator=uniform,kbgan\n")
    assert f"type: python {SCRIPT} --multirun launch.ranks=2 " in said
    assert nothing == ""


@pytest.mark.slow
def test_stops_at_a_signal_and_resumes_with_its_folder_alone(command, environment, tiny, finished, tmp_path):
    words = [sys.executable, str(SCRIPT), *tiny, "trainer.log_every=1", "hydra.run.dir=run"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        try:
            deadline = time.monotonic() + 180
            while not (tmp_path / "run" / "metrics.jsonl").exists() or not metrics_of(tmp_path / "run"):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            run.send_signal(signal.SIGTERM)
            said = run.communicate(timeout=60)[0].decode()
        finally:
            run.kill()
    assert run.returncode == 128 + signal.SIGTERM, said
    assert f"go on with: python {SCRIPT} resume={tmp_path / 'run'}\n" in said
    assert not (tmp_path / "run" / "result.json").exists()

    outcome = command(train, "resume=run")
    assert outcome.code == 0, outcome.errors
    result, unbroken = (json.loads((run / "result.json").read_text()) for run in (tmp_path / "run", finished))
    for key in ("valid", "test", "steps", "best_step", "stages"):
        assert result[key] == unbroken[key], key
    assert losses_of(tmp_path / "run")[1::2] == losses_of(finished)  # every step, and every second
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_two_ranks_stop_at_ctrl_c_and_one_resumes(command, environment, tiny, finished, tmp_path):
    words = [sys.executable, str(SCRIPT), *tiny, "launch.ranks=2", "trainer.log_every=1", "hydra.run.dir=run"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        try:
            deadline = time.monotonic() + 180
            while not (tmp_path / "run" / "metrics.jsonl").exists() or not metrics_of(tmp_path / "run"):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            run.send_signal(signal.SIGINT)
            said = run.communicate(timeout=60)[0].decode()
        finally:
            run.kill()
    assert run.returncode == 128 + signal.SIGINT, said
    going_on = f"go on with: python {SCRIPT} resume={tmp_path / 'run'}"
    assert said.splitlines()[-1].endswith(f"stopped by signal 2; {going_on}")
    assert "Traceback" not in said
    assert "error" not in said

    assert command(train, "resume=run", "launch.ranks=1").code == 0
    result, unbroken = (json.loads((run / "result.json").read_text()) for run in (tmp_path / "run", finished))
    assert result["steps"] == unbroken["steps"]
    assert losses_of(tmp_path / "run")[1::2] == pytest.approx(losses_of(finished), rel=1e-4)


def test_a_used_run_folder_is_refused_and_left_as_it_was(command, tiny_plain, finished, tmp_path):
    run = tmp_path / "used"
    shutil.copytree(finished, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "train.log"}
    fresh = command(train, *tiny_plain, "generator=uniform", f"hydra.run.dir={run}")
    assert fresh.code == 1
    assert f"hydra.run.dir: {run} already holds a run; go on with it by python {SCRIPT} resume={run}, " in fresh.errors
    other = command(train, f"resume={run}", "generator=uniform", "~generator.dim", "~generator.pool_size")
    assert other.code == 1
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.name in before} == before


def test_a_resume_that_changes_the_generator_is_refused_before_anything_is_written(
    command, tiny_plain, finished, tmp_path
):
    run = tmp_path / "used"
    shutil.copytree(finished, run)
    before = (run / "config.yaml").read_bytes(), (run / "overrides.yaml").read_bytes()
    # Without the run's own list of options, which has some that only KBGAN knows.
    checkpoint = run / "checkpoints" / json.loads((run / "checkpoints/latest.json").read_text())["checkpoint"]
    outcome = command(train, *tiny_plain, "generator=uniform", f"resume={checkpoint}", f"hydra.run.dir={run}")
    assert outcome.code == 1
    assert (
        "generator is generator.uniform.UniformSampler in this run, but generator.kbgan.KBGANSampler" in outcome.errors
    )
    assert ((run / "config.yaml").read_bytes(), (run / "overrides.yaml").read_bytes()) == before


@pytest.mark.parametrize(
    ("saved", "complaint"),
    [
        ("- generator._target_=os.system\n", "a line may not name what is called, got 'generator._target_=os.system'"),
        ("- hydra.searchpath=[file:///x]\n", "an option of the training and nothing else, got 'hydra.searchpath"),
        ("- --config-dir=x\n", "each line must be an option, KEY=VALUE, got '--config-dir=x'"),
        ("- [\n", "is damaged"),
    ],
)
def test_a_resumed_folder_may_not_name_code(saved, complaint, command, tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "overrides.yaml").write_text(saved)
    outcome = command(train, f"resume={folder}")
    assert outcome.code == 1
    assert re.fullmatch(r"error: resume: .*overrides.yaml.*\n", outcome.errors)
    assert complaint in outcome.errors


@pytest.mark.slow
def test_a_job_that_fails_in_a_process_of_joblib_is_told(shell, tiny_plain, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [*tiny_plain, "generator=uniform", "hydra/launcher=joblib", "trainer.batch_size=-1,256"]
    outcome = shell(
        [ROOT / "launch/train.py", "--multirun", *words, "hydra.sweep.dir=sweep"], folder=tmp_path, timeout=400
    )
    assert outcome.code == 1
    assert outcome.errors.endswith(f"error: at least one job of the sweep failed: {tmp_path}/sweep/0\n")
    assert (tmp_path / "sweep/1/result.json").is_file()
