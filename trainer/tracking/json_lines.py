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
        """Opens `metrics.jsonl`. Drops lines after `from_step`, which a run wrote after its last checkpoint.

        Raises:
            InputError: the file can't be written.
        """
        self._path = folder / "metrics.jsonl"
        try:
            if self._path.exists():
                kept = [line for line in self._path.read_bytes().splitlines() if _step_of(line) <= from_step]
                temporary = self._path.with_suffix(".tmp")
                temporary.write_bytes(b"".join(line + b"\n" for line in kept))
                os.replace(temporary, self._path)
            # Without a buffer: it would still hold a line that could not be written, and fail again when it is closed.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._not_written(error) from error

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes a line; raises InputError if the file can't be written."""
        named = {"loss" if name == "train/loss" else name: value for name, value in metrics.items()}
        line = (json.dumps({"step": step, **named}) + "\n").encode()
        try:
            while line:  # the system may write less than it is given
                line = line[self._file.write(line) :]
        except OSError as error:
            raise self._not_written(error) from error

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the file."""
        self._file.close()

    def _not_written(self, error: OSError) -> InputError:
        return InputError(f"{self._path} can't be written: {error.strerror}")


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for a line that is incomplete because the run died."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
