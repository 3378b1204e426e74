"""What a run advises: before it begins, of few steps an epoch; at its end, of a metric that still rises."""

import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from launch import train
from launch.advice import after_training, before_training
from reporting.run_files import read_metrics, still_rises
from tests.trainer.test_trainer import ScriptedEvaluator
from tests.worlds import KBGANRun

PLAIN = (
    "recipe=none",
    "generator=uniform",
    "discriminator.dim=4",
    "graph.num_people=100",
    "launch.device=cpu",
    "hydra.run.dir=run",
)


@pytest.mark.parametrize(
    ("last_stage", "patience", "valid_every", "said"),
    [
        ([0.1, 0.2, 0.3], 0, 1, "validation mrr was still rising: its last value, 0.3000, is its best"),
        ([0.3, 0.1, 0.4], 2, 1, "validation mrr was still rising: its last value, 0.4000, is its best"),
        ([0.1, 0.3, 0.2], 0, 1, None),
        ([0.1, 0.2, 0.2], 0, 1, None),  # no better than before
        ([0.3, 0.1, 0.2], 2, 1, None),  # ended by patience, at its last epoch
        ([0.3, 0.1], 1, 1, None),  # ended by patience, earlier
        ([0.3], 0, 3, None),  # one validation says nothing of rising
    ],
)
def test_a_metric_that_still_rises_is_said(
    last_stage: list[float], patience: int, valid_every: int, said: str | None, tmp_path: Path
):
    run = KBGANRun(tmp_path, epochs=3, valid_every=valid_every, patience=patience)
    run.trainer.stages = run.trainer.stages[-1:]
    run.trainer.validation.evaluator = ScriptedEvaluator(run, last_stage)
    run.fit()
    assert after_training(run.trainer) == said
    # Pages say the same of the run's file.
    found = [line["valid/mrr"] for line in read_metrics(tmp_path / "metrics.jsonl") if "valid/mrr" in line]
    assert still_rises(found) == (said is not None)


def test_a_run_without_validation_is_not_said_to_rise(tmp_path: Path):
    run = KBGANRun(tmp_path, epochs=1, valid_every=0)
    run.fit()
    assert after_training(run.trainer) is None


@pytest.mark.parametrize(("size", "steps"), [(9, "9 steps"), (1, "1 step"), (10, None), (500, None)])
def test_few_steps_an_epoch_are_said(size: int, steps: str | None, tmp_path: Path):
    run = KBGANRun(tmp_path)
    order = run.trainer.stages[-1].order
    order.steps_per_epoch = size
    run.trainer.stages = [*run.trainer.stages[:-1], replace(run.trainer.stages[-1], order=order)]
    assert before_training(run.trainer, None) is None
    said = before_training(run.trainer, 128)
    assert (said is None) == (steps is None)
    if steps is not None:
        assert said is not None
        assert said.startswith(f"an epoch is only {steps}, because trainer.batch_size=128 is large")


def test_a_run_that_trains_nothing_is_said(tmp_path: Path):
    run = KBGANRun(tmp_path)
    run.trainer.stages = [*run.trainer.stages[:-1], replace(run.trainer.stages[-1], epochs=0)]
    assert (before_training(run.trainer, None) or "").startswith("trainer.epochs=0: nothing is trained")


def test_a_run_says_both_and_its_command_goes_on(command, caplog: pytest.LogCaptureFixture):
    options = [*PLAIN, "trainer.batch_size=256", "trainer.epochs=4", "trainer.valid_every=1", "optimizer.lr=0.02"]
    with caplog.at_level(logging.INFO):
        assert command(train, *options, "seed=1").code == 0
    said = caplog.messages
    few = next(number for number, line in enumerate(said) if "trainer.batch_size=256 is large" in line)
    assert few < next(number for number, line in enumerate(said) if "epoch 1 of 4: validation" in line)
    advised = re.search(r"still rising: .*; go on with: (.*)", said[-1])
    assert advised is not None, said
    _, script, *words = shlex.split(advised[1])
    assert script == train.__file__
    assert words[-1] == "trainer.epochs=8"
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert command(train, *words).code == 0
        assert not any("is large for this graph" in line for line in caplog.messages)  # it can't be changed any more
        caplog.clear()
        assert command(train, "resume=run").code == 0
        assert not any("still rising" in line for line in caplog.messages)  # it trained nothing


def test_a_run_whose_rate_came_down_is_not_told_to_go_on(command, caplog: pytest.LogCaptureFixture):
    options = [*PLAIN, "trainer.epochs=4", "trainer.valid_every=1", "optimizer.lr=0.02", "schedule=cosine", "seed=1"]
    with caplog.at_level(logging.INFO):
        assert command(train, *options).code == 0
    said = next(line for line in caplog.messages if "still rising" in line)
    assert said.endswith("its learning rate has come to its end: a new run with trainer.epochs=8 may do better")
