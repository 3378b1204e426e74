"""A sweep as a table to print, a CSV file and a plot."""

import csv
import io
from collections.abc import Sequence

from reporting.option_plot import OptionPoint, draw_by_option
from reporting.page import Plot
from reporting.sweep_runs import (
    METRICS,
    TITLES,
    SeedGroup,
    SweepRun,
    main_metric,
    seed_groups,
    value_of,
    variance_shares,
    varied_options,
)

_MOST_ROWS = 20
_MOST_PLACES = 8
_LOGARITHMIC = 20.0
"""The ratio of largest to smallest value from which an axis is in powers of ten."""


def sweep_csv(runs: Sequence[SweepRun]) -> str:
    """A row for each run."""
    keys = varied_options(runs)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", *keys, *METRICS, "still_rising", "finished"])
    for run in runs:
        options = [run.options.get(key, "") for key in keys]
        figures = [run.figures.get(key, "") for key in METRICS]
        table.writerow([run.name, *options, *figures, int(run.rises), int(run.is_finished)])
    return text.getvalue()


def sweep_text(runs: Sequence[SweepRun]) -> str:
    """The best groups of seeds, what each option mattered, and the runs that have no result."""
    groups = seed_groups(runs)
    rows = [["seeds", *(TITLES[key] for key in METRICS), "options"]]
    rows += [[str(len(group.runs)), *(_shown(group, key) for key in METRICS), group.name] for group in groups]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in rows[: 1 + _MOST_ROWS]]
    if len(groups) > _MOST_ROWS:
        lines.append(f"and {len(groups) - _MOST_ROWS} more")
    shares = {key: share for key, share in variance_shares(runs).items() if share is not None}
    if shares:
        told = ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares.items())
        lines.append(f"share of the variance of {TITLES[main_metric(runs) or '']}: {told}")
    left = [run.name for run in runs if not run.is_finished]
    if left:
        lines.append(f"without a result: {', '.join(left)}")
    return "\n".join(lines if groups else lines[1:])


def _shown(group: SeedGroup, key: str) -> str:
    value, spread = group.mean(key), group.spread(key)
    if value is None:
        return "-"
    digits = 0 if key == "seconds" else 4
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def draw_sweep(runs: Sequence[SweepRun]) -> Plot | None:
    """The main metric by each varied option; None if no run has it, or nothing was varied."""
    metric, keys = main_metric(runs), varied_options(runs)
    if metric is None or not keys:
        return None
    finished = [run for run in runs if run.is_finished]
    values = {key: _numbers([value_of(run, key) for run in finished]) for key in keys}
    points = [
        OptionPoint({key: values[key][number] for key in keys}, run.figures[metric])
        for number, run in enumerate(finished)
    ]
    logarithmic = [key for key in keys if _spans_powers(values[key])]
    svg = draw_by_option(points, keys, TITLES[metric], logarithmic)
    best = max(finished, key=lambda run: run.figures[metric])
    alt = f"{TITLES[metric]} of {len(finished)} runs by {', '.join(keys)}. The best has {best.figures[metric]:.4f}."
    return Plot("sweep", svg, f"{TITLES[metric]} by each option", alt)


def _numbers(texts: Sequence[str]) -> Sequence[float | str]:
    """The values as numbers, if all of them are and there are many; else as they are, each with its place."""
    if len(set(texts)) <= _MOST_PLACES:
        return texts
    try:
        return [float(text) for text in texts]
    except ValueError:
        return texts


def _spans_powers(values: Sequence[float | str]) -> bool:
    numbers = [value for value in values if isinstance(value, float)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOGARITHMIC
