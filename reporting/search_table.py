"""The trials of a search: a table of the best ones, a CSV of all, and a plot of the metric by each option."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reporting.option_plot import OptionPoint, draw_by_option

FINISHED, PRUNED, FAILED = "complete", "pruned", "fail"
_MOST_ROWS = 10
_NUMBER = "number of the trial"


@dataclass(frozen=True)
class Trial:
    """One run of a search."""

    number: int
    state: str
    """`FINISHED`, `PRUNED` (stopped early), `FAILED`, or another word for a run that has not ended."""
    value: float
    """The best of its validations; nan if it had none."""
    validations: int
    seconds: float | None
    options: Mapping[str, Any] = field(default_factory=dict)
    """The values that it was given, by option."""
    error: str = ""


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that ran to their end."""
    return sorted((trial for trial in trials if trial.state == FINISHED), key=lambda trial: -trial.value)


def search_table(trials: Sequence[Trial], metric: str, options: Sequence[str]) -> str:
    """The best trials as a table of text, and how many ended in which way.

    Args:
        options: what was typed for each of `best_first(trials)`.
    """
    rows = [f"{'trial':>6}{metric:>12}  options"]
    best = list(zip(best_first(trials), options, strict=True))[:_MOST_ROWS]
    rows += [f"{trial.number:>6}{trial.value:>12.4f}  {typed}" for trial, typed in best]
    counts = {state: sum(trial.state == state for trial in trials) for state in (FINISHED, PRUNED, FAILED)}
    rows.append(f"{counts[FINISHED]} finished, {counts[PRUNED]} pruned, {counts[FAILED]} failed")
    return "\n".join(rows)


def search_csv(trials: Sequence[Trial], metric: str) -> str:
    """A row for each trial."""
    keys = sorted({key for trial in trials for key in trial.options})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", metric, "validations", "seconds", *keys, "error"])
    for trial in trials:
        seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
        options = [trial.options.get(key, "") for key in keys]
        numbers = [f"{trial.value:.6f}", trial.validations, seconds]
        table.writerow([trial.number, trial.state, *numbers, *options, trial.error])
    return text.getvalue()


def draw_search(trials: Sequence[Trial], metric: str, logarithmic: Sequence[str]) -> str:
    """An SVG of the metric by trial number and by each option.

    Args:
        logarithmic: options with an axis in powers of ten.
    """
    points = [
        OptionPoint({_NUMBER: trial.number, **trial.options}, trial.value, trial.state == FINISHED)
        for trial in trials
        if trial.state in (FINISHED, PRUNED) and not math.isnan(trial.value)
    ]
    keys = [_NUMBER, *sorted({key for trial in trials for key in trial.options})]
    return draw_by_option(points, keys, f"best {metric}", logarithmic)
