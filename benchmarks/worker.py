"""A process of one case: `python -m benchmarks.worker WORK CASE SETTINGS FILE`, which writes its result as JSON."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import footprint, profiling, ranking, training
from benchmarks.cases import Case, Kind, find
from benchmarks.machine import LIMITS, Limits
from benchmarks.settings import Settings
from launch.early_signals import end_at_signals
from launch.errors import one_line_errors
from launch.last_line import rank_number

_MEASURES = {
    Kind.TRAIN: training.measure,
    Kind.RANK: ranking.measure,
    Kind.RANKS: training.measure_steps,
    Kind.MEMORY: footprint.measure,
}


def _measure(case: Case, settings: Settings, folder: Path) -> dict[str, Any]:
    result = _MEASURES[case.kind](case, settings, folder).as_dict()
    return result | ({"gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6} if torch.cuda.is_available() else {})


def _profile(case: Case, settings: Settings, folder: Path) -> dict[str, Any]:
    return {"table": profiling.table(case, settings, folder)}


def _peer(case: Case, settings: Settings, _: Path) -> dict[str, Any]:
    from benchmarks import peer  # it takes seconds and much memory, and may not be installed

    return peer.measure(case, settings)


def _machine(*_: object) -> dict[str, Any]:
    limits = Limits(tuple(LIMITS), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    limits.measure()
    return limits.best


WORKS: dict[str, Callable[[Case, Settings, Path], dict[str, Any]]] = {
    "measure": _measure,
    "profile": _profile,
    "peer": _peer,
    "machine": _machine,
}


def main() -> None:
    """The process."""
    work, name, settings, file = sys.argv[1:]
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        done = WORKS[work](find(name), Settings.from_json(settings), Path(folder))
    if rank_number() == 0:
        Path(file).write_text(json.dumps(done))


if __name__ == "__main__":
    end_at_signals()
    main()
