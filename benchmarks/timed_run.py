"""A real run of launch/train.py, stopped after some time: its rate with all that a run does, and its memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PAUSE = 0.1
"""Seconds between two looks at a run. Times are wrong by this much."""


@dataclass(frozen=True)
class TimedRun:
    """What a run of one process did."""

    rate: float
    """Positives a second, from the first line of metrics to the last: with shuffling, checkpoints and reading ahead."""
    start: float
    """Seconds from the command to the first line."""
    peak: float
    """The most memory that it held, in bytes (VmHWM), files that it has mapped included."""
    own: float
    """The most of it that no file stands behind (RssAnon, looked at ten times a second)."""
    last: dict[str, float]
    """The last line of metrics."""


def timed_run(folder: Path, options: Sequence[str], threads: int, seconds: float) -> TimedRun:
    """Trains until so many seconds after the first line of metrics; then the run is told to end.

    Raises:
        RuntimeError: the run ended before; its message has what the run said.
    """
    words = [*options, f"hydra.run.dir={folder}", "trainer.epochs=1000", "trainer.patience=0"]
    said = folder.parent / f"{folder.name}.said"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "launch/train.py"), *words]
    started = time.monotonic()
    with said.open("wb") as out:
        run = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=ROOT)
    first = last = None
    peak = own = 0.0
    while last is None or first is None or last[0] - first[0] < seconds:
        time.sleep(_PAUSE)
        if run.poll() is not None:
            raise RuntimeError(f"the run ended with exit code {run.returncode}:\n{said.read_text()}")
        peak, own = max(peak, _memory(run.pid, "VmHWM")), max(own, _memory(run.pid, "RssAnon"))
        line = _last_line(folder / "metrics.jsonl")
        if line is not None and (last is None or line["step"] != last[1]["step"]):
            last = time.monotonic(), line
            first = first or last
    run.send_signal(signal.SIGTERM)
    run.wait()
    steps = last[1]["step"] - first[1]["step"]
    rate = steps * _batch(options) / (last[0] - first[0])
    return TimedRun(rate, first[0] - started, peak, own, last[1])


def _batch(options: Sequence[str]) -> int:
    (size,) = (option.split("=")[1] for option in options if option.startswith("trainer.batch_size="))
    return int(size)


def _last_line(path: Path) -> dict[str, float] | None:
    """The last whole line of the file; None if there is none yet."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def _memory(process: int, field: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(field)), 0.0)
