"""The page of a sweep: its runs, means over seeds, and how much each option mattered."""

import shlex
from collections.abc import Sequence

from reporting.html_table import Cell, Head, Table
from reporting.page import Heading, Plot, render
from reporting.sweep_runs import (
    METRICS,
    SEED,
    TITLES,
    SeedGroup,
    SweepRun,
    main_metric,
    seed_groups,
    value_of,
    variance_shares,
    varied_options,
)

_DIGITS = {key: 0 if key == "seconds" else 4 for key in METRICS}


def as_page(heading: Heading, name: str, runs: Sequence[SweepRun], plot: Plot | None) -> str:
    """The HTML page of the sweep in the folder `name`."""
    groups, metric = seed_groups(runs), main_metric(runs)
    keys = varied_options(runs)
    unfinished = [run for run in runs if not run.is_finished]
    return render(
        "sweep.html.jinja",
        title=f"Sweep {name}",
        summary=[f"{len(runs)} runs", f"varied: {', '.join(keys) or 'nothing'}", f"written {heading.written}"],
        cards=_cards(groups, metric),
        unfinished=unfinished,
        groups=_group_table(groups, [key for key in keys if key != SEED], metric) if groups else None,
        shares=_share_table(runs, metric) if metric else None,
        metric=TITLES[metric] if metric else "",
        plot=plot,
        runs=_run_table(runs, keys),
        facts=[
            *_best(runs, metric),
            ("this page", heading.command),
            *((key, str(value)) for key, value in heading.machine.items()),
        ],
    )


def _best(runs: Sequence[SweepRun], metric: str | None) -> list[tuple[str, str]]:
    """The folder of the best run, and the command that makes such a run."""
    if metric is None:
        return []
    best = max((run for run in runs if run.is_finished), key=lambda run: run.figures[metric])
    return [("best run", best.name), ("its command", shlex.join(["advkge", "train", *best.typed]))]


def _cards(groups: Sequence[SeedGroup], metric: str | None) -> list[dict[str, str]]:
    if metric is None:
        return []
    return [
        {"what": what, "who": f"{group.mean(metric):.4f} {TITLES[metric]}", "much": group.name}
        for what, group in (("Best", groups[0]), ("Worst", groups[-1]))
    ]


def _group_table(groups: Sequence[SeedGroup], keys: Sequence[str], metric: str | None) -> Table:
    heads = [*_heads(keys or ["options"]), Head("seeds"), *(Head(TITLES[key]) for key in METRICS)]
    best = groups[0].mean(metric) if metric else None
    rows = []
    for group in groups:
        options = [group.options[key] for key in keys] or [group.name]
        figures = [_figure(group, key, is_best=key == metric and group.mean(key) == best) for key in METRICS]
        rows.append([*map(Cell.of_text, options), Cell.of_count(len(group.runs)), *figures])
    return Table("Means over seeds", heads, rows, note="What follows ± is the standard deviation over seeds.")


def _figure(group: SeedGroup, key: str, *, is_best: bool) -> Cell:
    value, spread = group.mean(key), group.spread(key)
    if value is None:
        return Cell("-")
    digits = _DIGITS[key]
    return Cell(f"{value:.{digits}f}", value, "" if spread is None else f"± {spread:.{digits}f}", is_best=is_best)


def _share_table(runs: Sequence[SweepRun], metric: str) -> Table:
    heads = [Head("option", is_text=True), Head("values"), Head(f"share of the variance of {TITLES[metric]}, %")]
    rows = [
        [
            Cell.of_text(key),
            Cell.of_count(len({value_of(run, key) for run in runs if run.is_finished})),
            Cell.of_number(None if share is None else 100 * share, 0),
        ]
        for key, share in variance_shares(runs).items()
    ]
    return Table("Which option mattered", heads, rows)


def _run_table(runs: Sequence[SweepRun], keys: Sequence[str]) -> Table:
    heads = [Head("run", is_text=True), *_heads(keys), *(Head(TITLES[key]) for key in METRICS)]
    heads.append(Head("still rising", "Whether the last validation was the best: a longer run may do better."))
    rows = [
        [
            Cell.of_text(run.name),
            *(Cell.of_text(value_of(run, key)) for key in keys),
            *(Cell.of_number(run.figures.get(key), _DIGITS[key]) for key in METRICS),
            Cell("yes" if run.rises else "no", int(run.rises)),
        ]
        for run in runs
    ]
    return Table("All runs", heads, rows)


def _heads(keys: Sequence[str]) -> list[Head]:
    return [Head(key, is_text=True) for key in keys]
