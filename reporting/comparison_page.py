"""The page of a comparison of runs."""

from collections.abc import Mapping

from reporting.bootstrap import METRICS, Interval
from reporting.comparison import Comparison, described
from reporting.html_table import Cell, Head, Table
from reporting.page import Heading, Plot, render
from reporting.style import Look, as_svg, drawing, shown_name


def as_page(heading: Heading, comparison: Comparison) -> str:
    """The HTML page."""
    runs = list(comparison.metrics)
    return render(
        "comparison.html.jinja",
        title="Comparison of runs",
        summary=[f"{len(runs)} runs", f"{comparison.split} of {comparison.graph}", f"written {heading.written}"],
        described=described(comparison),
        first=runs[0],
        metrics=_table("Metrics", comparison.metrics, signed=False),
        differences=_table("Differences", comparison.differences, signed=True),
        plot=_plot(comparison),
        options=_options(comparison) if comparison.options else None,
        facts=[("this page", heading.command), *((key, str(value)) for key, value in heading.machine.items())],
    )


def _table(name: str, rows: Mapping[str, Mapping[str, Interval]], *, signed: bool) -> Table:
    heads = [Head("run", is_text=True), *(Head(title) for title in METRICS.values())]
    best = {} if signed else {metric: _best(rows, metric) for metric in METRICS}
    cells = [
        [
            Cell.of_text(run),
            *(_cell(each, metric, signed=signed, is_best=best.get(metric) == run) for metric, each in metrics.items()),
        ]
        for run, metrics in rows.items()
    ]
    return Table(name, heads, cells)


def _best(rows: Mapping[str, Mapping[str, Interval]], metric: str) -> str:
    choose = min if metric == "mean_rank" else max
    return choose(rows, key=lambda run: rows[run][metric].value)


def _cell(interval: Interval, metric: str, *, signed: bool, is_best: bool) -> Cell:
    form = f"{'+' if signed else ''}.{1 if metric == 'mean_rank' else 4}f"
    star = "*" if signed and interval.is_clear else ""
    bounds = f"{interval.low:{form}} to {interval.high:{form}}"
    return Cell(f"{interval.value:{form}}{star}", interval.value, bounds, is_best=is_best)


def _options(comparison: Comparison) -> Table:
    heads = [Head("option", is_text=True), *(Head(run, is_text=True) for run in comparison.metrics)]
    rows = [[Cell.of_text(key), *map(Cell.of_text, values)] for key, values in comparison.options.items()]
    return Table("Options that differ", heads, rows)


def _plot(comparison: Comparison) -> Plot:
    """The differences of the MRR with their intervals, a line for each run."""
    found = {run: metrics["mrr"] for run, metrics in comparison.differences.items()}
    first = next(iter(comparison.metrics))
    look = Look.of(0)
    with drawing() as plt:
        figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.35 * len(found)), layout="constrained")
        place = range(len(found))
        middle = [each.value for each in found.values()]
        wide = [[each.value - each.low for each in found.values()], [each.high - each.value for each in found.values()]]
        axis.errorbar(middle, place, xerr=wide, color=look.colour, linestyle="", capsize=3, **look.point)
        axis.axvline(0, color=look.colour, linewidth=0.8, linestyle=":")
        axis.set_yticks(place, [shown_name(run) for run in found])
        axis.set_ylim(len(found) - 0.5, -0.5)  # the first run on top
        axis.set_xlabel(f"MRR minus that of {shown_name(first)}")
        svg = as_svg(figure)
    said = "; ".join(
        f"{run} {each.value:+.4f}, from {each.low:+.4f} to {each.high:+.4f}" for run, each in found.items()
    )
    return Plot("differences", svg, f"MRR minus that of {first}", f"Differences of the MRR to {first}: {said}.")
