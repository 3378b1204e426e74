"""`metrics.csv`: the metrics as one table, for spreadsheets and pandas."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.tracking.tracker import Title, Tracker, Wanted


class CsvTracker(Tracker):
    """A row for each line of `metrics.jsonl`, and a column for each metric that any row has.

    A cell is empty where a row lacks the metric. A metric that comes up late adds a column, and the file is written
    anew with it. Tables are files of their own, such as `predictions.csv`, of which the last one is kept. It takes no
    plots and no exports: these are files already.

    Args:
        hardest_negatives: write the hardest negatives by name.
        predictions: test triples whose best answers are written; 0 for no table.
    """

    def __init__(self, *, hardest_negatives: bool, predictions: int) -> None:
        self.wanted = Wanted(hardest_negatives=hardest_negatives, predictions=predictions)

    def start(
        self, folder: Path, config: Mapping[str, Any], *, title: Title, run_id: str | None, from_step: int
    ) -> None:
        """Opens the file. Drops rows after `from_step`, which a run wrote after its last checkpoint."""
        self._path = folder / "metrics.csv"
        self._columns: list[str] = ["step"]
        self._rows: list[dict[str, Any]] = []
        if from_step and self._path.exists():
            with self._path.open(newline="") as file:
                table = csv.DictReader(file)
                self._columns = list(table.fieldnames or self._columns)
                self._rows = [row for row in table if _step_of(row) <= from_step]
        self._write_all()

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes a row; raises InputError if the file cannot be written."""
        row = {"step": step, **metrics}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._write_all()
            return
        try:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        except OSError as error:
            raise _not_written(self._path, error) from error

    def show(
        self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path], *, step: int | None = None
    ) -> None:
        """Writes the table, if it has rows, to a file with its name. Plots are files already."""
        if table:
            _write(self._path.with_name(f"{name}.csv"), list(table[0]), table)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Does nothing: each row is written when it comes."""

    def _write_all(self) -> None:
        _write(self._path, self._columns, self._rows)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written: {error.strerror}")


def _step_of(row: Mapping[str, Any]) -> float:
    """The step of a row; infinity for one that is incomplete because the run died."""
    try:
        return float(row["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
