"""The search over options: what is varied, what a search leaves, and that it goes on where it stopped."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from graph.errors import InputError
from launch import search, trial
from launch.search_space import Dimension, as_options, split_space
from launch.trial import Outcome, run_trial, validations
from tests.warm_start import WarmPopen, children_of, is_running, wait_until

RUN = (
    "graph.num_people=100",
    "generator=uniform",
    "generator.num_negatives=4",
    "discriminator.dim=8",
    "trainer.batch_size=128",
    "trainer.epochs=3",
    "trainer.valid_every=1",
    "launch.device=cpu",
)


def test_what_is_varied_is_what_has_several_values():
    dimensions, others = split_space(
        [
            "graph=umls",
            "loss=softmax,log_sigmoid",
            "optimizer.lr=tag(log,interval(1e-4,0.1))",
            "discriminator.dim=range(8,25,8)",
            "loss.margin=interval(1,5)",
            "term=[n3,l2]",
            "--cfg",
        ]
    )
    assert dimensions == [
        Dimension("loss", CategoricalDistribution(["softmax", "log_sigmoid"])),
        Dimension("optimizer.lr", FloatDistribution(1e-4, 0.1, log=True)),
        Dimension("discriminator.dim", CategoricalDistribution(["8", "16", "24"])),
        Dimension("loss.margin", FloatDistribution(1.0, 5.0)),
    ]
    assert others == ["graph=umls", "term=[n3,l2]", "--cfg"]
    assert as_options({"loss": "softmax", "optimizer.lr": 0.0123456}) == ["loss=softmax", "optimizer.lr=0.01235"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("optimizer.lr=interval(1,0.5)", "optimizer.lr: an interval must go from a lower number to a higher one"),
        ("optimizer.lr=tag(log,interval(0,1))", "optimizer.lr: an interval with the tag log must start above 0"),
        ("optimizer.lr=tag(lgo,interval(1,2))", "optimizer.lr: an interval may have the tag log, got lgo"),
        ("optimizer.lr=interval(1", "'optimizer.lr=interval\\(1' can't be read"),
    ],
)
def test_what_can_not_be_varied_is_named(argument: str, message: str):
    with pytest.raises(InputError, match=message):
        split_space([argument])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: nothing is varied; give at least one option several values"),
        (["seed=0,1", "search.trials=0"], "error: search.trials must be at least 1, got 0"),
        (["trainer.metric=mrr,hits@1"], "error: trainer.metric can't be varied: a search compares"),
        (["trainer.valid_sample=9,99"], "error: trainer.valid_sample can't be varied: a search compares"),
        (["seed=0,1", "optimizer.rate=1"], "error: optimizer.rate: there is no such option"),
    ],
)
def test_bad_options_end_before_any_run(command, tmp_path: Path, arguments: list[str], message: str):
    outcome = command(search, *RUN, *arguments, f"hydra.run.dir={tmp_path / 'search'}")
    assert outcome.code == 1
    assert outcome.errors.startswith(message)
    assert not (tmp_path / "search" / "trials").exists()


@pytest.mark.parametrize(
    ("options", "metric"),
    [
        ([], "valid/mrr"),
        (["trainer.metric=hits@3"], "valid/hits@3"),
        (["trainer.valid_sample=9"], "valid_sample/mrr"),
        (["search.metric=valid/tail/mrr"], "valid/tail/mrr"),
    ],
)
def test_trials_are_compared_by_the_metric_of_their_runs(
    options: list[str], metric: str, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def trial(options: object, folder: object, metric: str, *_: object) -> Outcome:
        asked.append(metric)
        return Outcome(0.5, pruned=False, error=None)

    asked: list[str] = []
    monkeypatch.setattr(search, "run_trial", trial)
    outcome = command(search, *RUN, "seed=0,1", *options, "search.trials=1", f"hydra.run.dir={tmp_path / 'search'}")
    assert outcome.code == 0, outcome.errors
    assert asked == [metric]
    assert metric in outcome.output.splitlines()[0]


def test_options_that_were_tried_are_not_run_again(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def trial(options: list[str], *_: object) -> Outcome:
        run.append(options[-1])
        return Outcome(0.1 * len(run), pruned=False, error=None)

    run: list[str] = []
    monkeypatch.setattr(search, "run_trial", trial)
    outcome = command(search, *RUN, "seed=0,1,2", "search.trials=8", f"hydra.run.dir={tmp_path / 'search'}")
    assert outcome.code == 0, outcome.errors
    assert sorted(run) == sorted(set(run)) and 2 <= len(run) <= 3
    rows = list(csv.DictReader((tmp_path / "search" / "trials.csv").read_text().splitlines()))
    assert [f"seed={row['seed']}" for row in rows] == run
    assert f"{len(run)} finished, 0 pruned, 0 failed" in outcome.output


def test_a_graph_without_valid_triples_ends_a_search_before_any_run(command, tmp_path: Path):
    (tmp_path / "train.txt").write_text("e1\tr0\te2\ne2\tr0\te1\n")
    outcome = command(search, "graph=folder", f"graph.path={tmp_path}", "seed=0,1", "hydra.run.dir=search")
    assert outcome.code == 1
    assert outcome.errors == f"error: search.metric=valid/mrr: {tmp_path.name} has no valid triples\n"
    assert not (tmp_path / "search" / "trials").exists()


@pytest.mark.usefixtures("warm")
def test_a_search_goes_on_and_ends_with_a_table(command, tmp_path: Path):
    folder = tmp_path / "search"
    given = [*RUN, "optimizer.lr=tag(log,interval(1e-3,0.1))", "loss=softmax,nce", f"hydra.run.dir={folder}"]
    first = command(search, *given, "search.trials=1")
    assert first.code == 0, first.errors
    # As if it had been killed in its first trial.
    journal = (folder / "study.jsonl").read_text().splitlines()
    last = max(number for number, line in enumerate(journal) if json.loads(line)["op_code"] == 6)
    (folder / "study.jsonl").write_text("\n".join(journal[:last]) + "\n")
    outcome = command(search, *given, "search.trials=2")
    assert outcome.code == 0, outcome.errors
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    ended = [row["state"] for row in rows]
    assert ended.count("complete") + ended.count("pruned") == 2
    assert ended.count("fail") == 1
    # What the killed one tried is tried again.
    killed = next(row for row in rows if row["state"] == "fail")
    assert sum(row["optimizer.lr"] == killed["optimizer.lr"] for row in rows) == 2
    assert len({row["optimizer.lr"] for row in rows}) == 2
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["valid/mrr"]))
    assert f"the best: python {Path(search.__file__).with_name('train.py')} {' '.join(RUN)}" in outcome.output
    assert f"loss={best['loss']}" in outcome.output.split("the best: ")[1].splitlines()[0]
    metric = max(validations(folder / "trials" / f"{int(best['trial']):04d}", "valid/mrr"))
    assert float(best["valid/mrr"]) == pytest.approx(metric, abs=1e-6)
    assert (folder / "search.svg").read_text().startswith("<?xml")
    other = command(search, *given, "search.trials=5", "seed=3")
    assert other.code == 1
    assert f"hydra.run.dir: {folder} holds a search with other options (seed=3)" in other.errors


@pytest.mark.usefixtures("warm")
def test_a_search_whose_runs_all_fail_says_why(command, tmp_path: Path):
    varied = ["discriminator.dim=-1,-2", "search.trials=9", f"hydra.run.dir={tmp_path / 'search'}"]
    outcome = command(search, *RUN, *varied)
    assert outcome.code == 1
    assert "error: no run succeeds, 3 have failed: discriminator.dim must be at least 1, got -" in outcome.errors


@pytest.mark.usefixtures("warm")
def test_fewer_trials_than_that_end_with_an_error_too(command, tmp_path: Path):
    varied = ["seed=0,1", "search.trials=1", "trainer.valid_every=0", f"hydra.run.dir={tmp_path / 'search'}"]
    outcome = command(search, *RUN, *varied)
    assert outcome.code == 1
    assert "Traceback" not in outcome.errors + outcome.output
    reason = "it had no validation with valid/mrr (see trainer.valid_every)"
    assert outcome.errors.splitlines()[-1] == f"error: no run succeeds, 1 have failed: {reason}"
    rows = list(csv.DictReader((tmp_path / "search" / "trials.csv").read_text().splitlines()))
    assert [(row["state"], row["error"]) for row in rows] == [("fail", reason)]


@pytest.mark.usefixtures("warm")
def test_a_hopeless_run_is_stopped_and_a_failed_one_says_why(tmp_path: Path):
    seen: list[float] = []

    def is_hopeless(number: int, metric: float) -> bool:
        assert number == len(seen)
        seen.append(metric)
        return number == 1

    options = [*RUN, "trainer.epochs=100000"]
    outcome = run_trial(options, tmp_path / "one", "valid/mrr", 1, is_hopeless)
    assert outcome.pruned
    assert outcome.error is None
    assert outcome.best == max(validations(tmp_path / "one", "valid/mrr"))
    assert len(seen) >= 2
    failed = run_trial([*RUN, "discriminator.dim=0"], tmp_path / "two", "valid/mrr", 1, is_hopeless)
    assert failed.error == "discriminator.dim must be at least 1, got 0"
    assert failed.best is None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_a_signal_ends_a_search_and_its_runs(tmp_path: Path, environment, number: int, workers: int):
    folder = tmp_path / "search"
    varied = ["seed=0,1,2", "trainer.epochs=100000", f"search.workers={workers}", f"hydra.run.dir={folder}"]
    command = ["python", search.__file__, *RUN, *varied]
    with (
        (tmp_path / "said").open("w") as said,
        WarmPopen(command, stdout=said, stderr=said, env=environment) as process,
    ):
        wanted = time.monotonic() + 300
        while len(list(folder.glob("trials/*/metrics.jsonl"))) < workers and time.monotonic() < wanted:
            time.sleep(0.05)
        runs = children_of(process)
        process.send_signal(number)
        code = process.wait(300)
    assert len(runs) == workers
    wait_until(lambda: not any(is_running(run) for run in runs))
    assert len(list(folder.glob("trials/*"))) == workers
    if number == signal.SIGTERM:
        assert code == 128 + signal.SIGTERM
        *_, last = (tmp_path / "said").read_text().splitlines()
        assert last.startswith("stopped by signal 15; go on with: python ")


@pytest.mark.parametrize(("typed", "used"), [("5", "5"), (None, "3")])
def test_a_trial_has_the_threads_that_the_user_set(typed, used, tmp_path, monkeypatch):
    program = tmp_path / "run.py"
    program.write_text("import os; print('threads:', os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setattr(trial, "_SCRIPT", program)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if typed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", typed)
    run_trial([], tmp_path / "trial", "valid/mrr", 3, lambda *_: False)
    assert (tmp_path / "trial" / "log.txt").read_text().splitlines()[-1] == f"threads: {used}"
