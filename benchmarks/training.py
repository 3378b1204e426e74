"""Whole training steps: the order of positives, sampling, look-up, scores, loss, backward, updates of rows.

Repeats are whole epochs where an epoch is short enough, so that the shuffle at its beginning has its share.
"""

from functools import partial
from pathlib import Path

from benchmarks.cases import DIMENSION, PRODUCTS, Case
from benchmarks.machine import Limits
from benchmarks.project import Training, compose_case, seconds_to_all, start
from benchmarks.result import Result, at_reference
from benchmarks.settings import Settings
from benchmarks.timing import Timing, in_turns, seconds_of
from trainer.peak import peak_mb

_WARM_UP = 3
"""Steps before any that counts: buffers have their size after the first."""


def measure(case: Case, settings: Settings, folder: Path) -> Result:
    """Steps of a case, in turns with those of the case beside it, between two measurements of the limits."""
    trainings = [make(one, settings, folder) for one in (case, case.beside) if one is not None]
    training = trainings[0]
    limits = Limits(_limits(case), training.run.runtime.device)
    limits.measure()
    timing, *beside = time_steps(trainings, settings)
    peak = peak_mb()
    limits.measure()
    figures = _rates(training, timing, limits.best) | _shares(case, training, timing, limits.best)
    if case.beside is not None:
        figures[f"x {case.beside.name}"] = beside[0].best / timing.best
    return Result(timing, figures, limits.best, peak)


def measure_steps(case: Case, settings: Settings, folder: Path) -> Result:
    """The steps alone, as one rank of several or of one. Collective."""
    training = make(case, settings, folder)
    timing = time_steps([training], settings)[0]
    figures = {"positives/s": training.positives / timing.best}
    peak = peak_mb()
    training.run.runtime.close()
    return Result(timing, figures, {}, peak)


def make(case: Case, settings: Settings, folder: Path) -> Training:
    """The case's run, warm. Collective."""
    config = compose_case(case, settings.graph)
    training = Training(config, start(config), folder / case.name)
    training.steps(_WARM_UP)
    return training


def time_steps(trainings: list[Training], settings: Settings) -> list[Timing]:
    """Seconds of a step of each, by repeats of about `settings.seconds`. Collective."""
    counts = [_steps_a_repeat(training, settings.seconds) for training in trainings]
    works = [partial(training.steps, count) for training, count in zip(trainings, counts, strict=True)]
    timings = in_turns(works, settings.repeats)
    return [timing / count for timing, count in zip(timings, counts, strict=True)]


def _steps_a_repeat(training: Training, seconds: float) -> int:
    step = seconds_to_all(seconds_of(partial(training.steps, _WARM_UP)) / _WARM_UP, training.run.runtime)
    epoch = training.stage.order.steps_per_epoch
    fitting = max(_WARM_UP, round(seconds / step))
    return fitting // epoch * epoch or fitting


def _limits(case: Case) -> tuple[str, ...]:
    names = ["sgemm GFLOP/s"]
    if "bf16" in case.name:
        names.append("bf16 gemm GFLOP/s")
    if case.model == "transe_l1" and case.shared:
        names.append("cdist positives/s")
    if not case.shared and case.loss is not None:
        names.append("gather GB/s")
    return tuple(names)


def _rates(training: Training, timing: Timing, limits: dict[str, float]) -> dict[str, float]:
    rate = training.positives / timing.best
    return {
        "positives/s": rate,
        "positives/s, median": training.positives / timing.median,
        "scored negatives/s": rate * training.negatives * training.sides,
        "positives/s at 160 GFLOP/s": at_reference(rate, limits),
    }


def _shares(case: Case, training: Training, timing: Timing, limits: dict[str, float]) -> dict[str, float]:
    """What the limits would take of the measured time.

    Products: two operations for each number of a row, forward and for both gradients. Own negatives: each row read
    once. L1: cdist for the same number of positives, of one side whatever the case's.
    """
    if case.loss is None:  # KBGAN, whose two models do different work on a pool
        return {}
    rate = training.positives / timing.best
    scored = rate * training.negatives * training.sides
    if "gather GB/s" in limits:
        rows = scored + 2 * rate
        return {"share of gather": rows * training.row_bytes / 1e9 / limits["gather GB/s"]}
    if case.model in PRODUCTS and case.shared:
        gflops = 6e-9 * scored * DIMENSION
        return {
            f"share of {name}": gflops / limits[f"{name} GFLOP/s"]
            for name in ("sgemm", "bf16 gemm")
            if f"{name} GFLOP/s" in limits
        }
    return {"x cdist": rate / limits["cdist positives/s"]} if "cdist positives/s" in limits else {}
