"""Learning-rate schedules beside torch's own, and runs with them that are resumed or on several ranks."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR

from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.schedule.constant import Constant
from trainer.schedule.cosine import Cosine
from trainer.schedule.plateau import Plateau
from trainer.schedule.schedule import Schedule
from trainer.schedule.step import Step


def plateau(patience: int = 1) -> Plateau:
    return Plateau(warm_up=0.0, decay=0.5, patience=patience, threshold=0.01, least=0.1)


def torch_factors(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (Cosine(warm_up=0.0, last=0.1), lambda optimizer: CosineAnnealingLR(optimizer, 20, eta_min=0.1)),
        (
            Step(warm_up=0.0, milestones=[0.5, 0.75], decay=0.1),
            lambda optimizer: MultiStepLR(optimizer, [10, 15], gamma=0.1),
        ),
        (Constant(warm_up=0.0), lambda optimizer: MultiStepLR(optimizer, [])),
        (Constant(warm_up=2.5), lambda optimizer: LinearLR(optimizer, 1e-9, total_iters=10)),
    ],
)
def test_factors_are_those_of_torch(schedule: Schedule, reference: Callable[[torch.optim.Optimizer], LRScheduler]):
    # 5 epochs of 4 steps.
    found = [schedule.factor(step / 4, 5) for step in range(20)]
    # Ours starts its warm-up from a thousandth, so that the first step is one.
    expected = [max(each, 1e-3) for each in torch_factors(reference, 20)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_plateau_waits_and_falls_to_its_floor():
    schedule, found = plateau(), []
    for metric in (0.1, 0.2, 0.201, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3):
        schedule.validated(metric)
        found.append(schedule.factor(0.0, 1))
    # .201 is not a hundredth better than .2; two validations without a better one halve the rate.
    assert found == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1, 0.1, 0.1])


def test_plateau_goes_on_from_its_state():
    one, metrics = plateau(patience=2), [0.1, 0.1, 0.1, 0.1, 0.3, 0.2, 0.2, 0.2, 0.2]
    for metric in metrics[:3]:
        one.validated(metric)
    other = plateau(patience=2)
    other.load_state(json.loads(json.dumps(one.state())))
    for metric in metrics[3:]:
        one.validated(metric)
        other.validated(metric)
        assert other.factor(0.0, 1) == one.factor(0.0, 1)
    assert one.factor(0.0, 1) == 0.25


def test_a_state_of_another_schedule_is_named():
    with pytest.raises(InputError, match="resume: the checkpoint's schedule has no best: it is of a run with another"):
        plateau().load_state(Constant(warm_up=0.0).state())


def test_plateau_has_a_state_before_any_validation():
    other = plateau()
    other.load_state(json.loads(json.dumps(plateau().state(), allow_nan=False)))
    other.validated(0.01)
    other.validated(0.01)
    assert other.factor(0.0, 1) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warm_up=-1.0), "schedule.warm_up must be at least 0 epochs, got -1.0"),
        (lambda: Constant(warm_up=float("nan")), "schedule.warm_up must be at least 0 epochs, got nan"),
        (lambda: Cosine(warm_up=0.0, last=1.5), r"schedule.last must be in \[0, 1\], got 1.5"),
        (
            lambda: Step(warm_up=0.0, milestones=[1.0], decay=0.1),
            "schedule.milestones must be shares of the stage between 0 and 1, got 1.0",
        ),
        (
            lambda: Step(warm_up=0.0, milestones=[], decay=0.0),
            "schedule.decay must be above 0 and at most 1, got 0.0",
        ),
        (
            lambda: Plateau(warm_up=0.0, decay=1.0, patience=1, threshold=0.0, least=0.0),
            "schedule.decay must be above 0 and below 1, got 1.0",
        ),
        (
            lambda: Plateau(warm_up=0.0, decay=0.5, patience=-1, threshold=0.0, least=0.0),
            "schedule.patience must be at least 0, got -1",
        ),
        (
            lambda: Plateau(warm_up=0.0, decay=0.5, patience=1, threshold=1.0, least=0.0),
            r"schedule.threshold must be in \[0, 1\), got 1.0",
        ),
        (
            lambda: Plateau(warm_up=0.0, decay=0.5, patience=1, threshold=0.0, least=2.0),
            r"schedule.least must be in \[0, 1\], got 2.0",
        ),
    ],
)
def test_bad_options_are_named(make: Callable[[], Schedule], message: str):
    with pytest.raises(InputError, match=message):
        make()


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("speed/")} for line in found]


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "cosine": lambda: Cosine(warm_up=0.5, last=0.1),
    # Its validations are one an epoch, and none is better by half.
    "plateau": lambda: Plateau(warm_up=0.0, decay=0.5, patience=0, threshold=0.5, least=0.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_run_has_the_rates_of_an_unbroken_one(name: str, tmp_path: Path):
    make = SCHEDULES[name]
    whole = KBGANRun(tmp_path / "whole", schedule=make(), epochs=3)
    whole.fit()
    rates = {line["train/lr"] for line in lines(whole.folder) if "train/lr" in line}
    assert len(rates) > 1
    broken = KBGANRun(tmp_path / "broken", schedule=make(), epochs=3)

    class StopAt:
        run_id = None

        def start(self, *_: object, **__: object) -> None: ...

        def log(self, step: int, _: object) -> None:
            if step == 43:  # the last stage's third epoch
                broken.runtime.stop_signal = signal.SIGTERM

        def finish(self, _: object) -> None: ...

    broken.trainer.trackers = [*broken.trainer.trackers, StopAt()]
    with pytest.raises(Stopped):
        broken.fit()
    again = KBGANRun(tmp_path / "broken", schedule=make(), epochs=3)
    checkpoint = find_checkpoint(again.folder, "latest", "resume")
    again.trainer.resume(checkpoint, again.trainer.checkpointer.read_manifest(checkpoint))
    again.fit()
    assert lines(again.folder) == lines(whole.folder)


def fit_on_ranks(rank: int, world_size: int, folder: Path) -> list[dict[str, Any]]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    run = KBGANRun(folder / str(world_size), runtime=runtime, schedule=SCHEDULES["plateau"](), epochs=3)
    run.fit()
    return lines(run.folder) if rank == 0 else []


@pytest.mark.slow
def test_two_ranks_have_the_rates_of_one(tmp_path: Path):
    (one,), (two, _) = run_on_ranks(1, fit_on_ranks, tmp_path), run_on_ranks(2, fit_on_ranks, tmp_path)
    assert [line.get("train/lr") for line in two] == [line.get("train/lr") for line in one]
    assert [line.get("valid/mrr") for line in two] == [line.get("valid/mrr") for line in one]
