"""`metrics.jsonl`, which every run writes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.tracking.tracker import Title, Tracker


class JsonLinesTracker(Tracker):
    """One JSON object a line in `metrics.jsonl`: step, epoch, stage, loss, then the others by their names.

    It takes no tables, plots or exports.
    """

    def start(
        self, folder: Path, config: Mapping[str, Any], *, title: Title, run_id: str | None, from_step: int
    ) -> None:
        """Opens `metrics.jsonl`. Drops lines after `from_step`, which a run wrote after its last checkpoint."""
        path = folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines() if _step_of(line) <= from_step]
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(b"".join(line + b"\n" for line in kept))
            os.replace(temporary, path)
        self._file = path.open("a")

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes a line; raises InputError if the file cannot be written."""
        named = {"loss" if name == "train/loss" else name: value for name, value in metrics.items()}
        try:
            self._file.write(json.dumps({"step": step, **named}) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._file.name} can't be written: {error.strerror}") from error

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the file."""
        self._file.close()


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for a line that is incomplete because the run died."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
