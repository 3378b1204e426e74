"""A trial of a search: a training run in its own process and folder, whose validations are watched."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch.arguments import override
from launch.early_signals import launched_from_here

_SCRIPT = Path(__file__).parent / "train.py"
_LOOK_EVERY = 0.5
"""Seconds between two readings of a run's metrics."""
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with a metric, or pruned, or with an error."""

    best: float | None
    """The best metric of its validations; None if there was none."""
    pruned: bool
    error: str | None


def run_trial(
    options: Sequence[str], folder: Path, metric: str, threads: int, is_hopeless: Callable[[int, float], bool]
) -> Outcome:
    """Trains, and stops the run when `is_hopeless` is true for a validation of its last stage.

    Args:
        metric: a key of metrics.jsonl; higher is better.
        threads: of the run, unless the user has set OMP_NUM_THREADS.
        is_hopeless: takes the number of a validation, counted from 0, and its metric.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(_SCRIPT), *options, override("hydra.run.dir", str(folder))]
    environment = {"OMP_NUM_THREADS": str(threads), **launched_from_here()}  # as the user has set it, if at all
    pruned = False
    with (folder / "log.txt").open("w") as log:
        print("$", *command[1:], file=log, flush=True)
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
            _running.add(process)
            try:
                seen = 0
                while process.poll() is None and not pruned:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOK_EVERY)
                    values = validations(folder, metric)
                    for number in range(seen, len(values)):
                        pruned = pruned or is_hopeless(number, values[number])
                    seen = len(values)
            finally:
                if process.poll() is None:
                    process.kill()  # a pruned run, or a search that was stopped: no checkpoint is needed
                code = process.wait()
                _running.discard(process)
    values = validations(folder, metric)
    error = None if pruned or code == 0 else _last_words(folder / "log.txt", code)
    return Outcome(max(values, default=None), pruned, error)


def kill_running() -> None:
    """Kills the runs of all trials that are under way, of a search that is about to end by a signal."""
    for process in list(_running):
        process.kill()


def validations(folder: Path, metric: str) -> list[float]:
    """The metric at each validation so far of the last stage."""
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return []
    found = []
    for line in file.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the last line may be half written
            record = json.loads(line)
            if metric in record and not str(record.get("stage", "")).startswith("pretrain"):
                found.append(float(record[metric]))
    return found


def _last_words(log: Path, code: int) -> str:
    said = log.read_text().strip().splitlines()
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return errors[0] if errors else f"exit code {code}: {said[-1] if said else ''}"
