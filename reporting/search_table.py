"""The trials of a search: a table of the best ones, a CSV of all, and a plot of the metric by each option."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reporting.style import GRID, PALETTE, drawing, legend_below, save, shown_name

FINISHED, PRUNED, FAILED = "complete", "pruned", "fail"
_MOST_ROWS = 10
_MOST_ACROSS = 4


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


def draw_search(trials: Sequence[Trial], metric: str, logarithmic: Sequence[str], path: Path) -> Path:
    """Plots the metric by trial number and by each option.

    Args:
        logarithmic: options with an axis in powers of ten.
    """
    keys = [None, *sorted({key for trial in trials for key in trial.options})]
    across = min(len(keys), _MOST_ACROSS)
    down = -(-len(keys) // across)
    ways = {PRUNED: ("v", "none", "stopped early"), FINISHED: ("o", PALETTE[0], "ran to its end")}
    with drawing() as plt:
        size = (1 + 2.7 * across, 2.7 * down)
        figure, axes = plt.subplots(down, across, figsize=size, sharey=True, squeeze=False, layout="constrained")
        for axis in axes.flat[len(keys) :]:
            axis.set_visible(False)
        for axis, key in zip(axes.flat, keys, strict=False):
            for state, (marker, inside, label) in ways.items():
                shown = [each for each in trials if each.state == state and not math.isnan(each.value)]
                x = [each.number if key is None else _place(each.options.get(key)) for each in shown]
                points = {"s": 26, "marker": marker, "facecolors": inside, "edgecolors": PALETTE[0], "label": label}
                axis.scatter(x, [each.value for each in shown], alpha=0.8, **points)
            axis.set_xlabel("number of the trial" if key is None else shown_name(key))
            if key in logarithmic:
                axis.set_xscale("log")
            axis.grid(color=GRID)
        for axis in axes[:, 0]:
            axis.set_ylabel(f"best {metric}")
        legend_below(figure, axes.flat[:1])
        return save(figure, path)


def _place(value: Any) -> Any:
    return value if isinstance(value, int | float) else shown_name(str(value))
