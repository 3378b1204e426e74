"""A scorecard's plots: quality by cost, and properties of the negatives."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from reporting.page import Plot
from reporting.scorecard_cell import Block, Moment, Result
from reporting.scorecard_numbers import ByNumber
from reporting.scorecard_table import Line, blocks, title
from reporting.style import Look, as_svg, drawing, legend_below, looks, shown_name

_MOST_ACROSS = 3
_SIZE = (4.8, 3.2)
_MIDDLE = (0.45, 0.55)
"""Smallest range of a hardness axis, so that noise around .5, the value of uniform draws, stays small."""
Value = Callable[[Moment], int | float | None]


@dataclass(frozen=True)
class _Panel:
    """What is compared in one panel: a line for each sampler, in the order of the legend, and all their runs."""

    lines: list[Line]
    results: list[Result]


@dataclass(frozen=True)
class Curves:
    """A curve for each sampler: the mean over its seeds, in a band of one standard deviation to each side."""

    name: str
    caption: str
    x_label: str
    y_label: str
    x: Value
    y: Value
    around: tuple[float, float] | None = None
    """The smallest range of the y axis."""

    def of(self, results: Sequence[Result]) -> tuple[list[float], list[float], list[float]]:
        """The curve of a sampler: x, y and the half width of the band; empty if its runs did not measure it.

        A point is the mean over all runs after one epoch of a stage. Epochs that not all runs validate are left out.
        """
        places: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
        for result in results:
            seen: Counter[tuple[str, int]] = Counter()
            for moment in result.moments:
                epoch = moment.stage, moment.epoch
                x, y = self.x(moment), self.y(moment)
                if x is not None and y is not None:
                    places.setdefault((*epoch, seen[epoch]), []).append((x, y))
                seen[epoch] += 1  # a short stage is validated several times in an epoch
        most = max(map(len, places.values()), default=0)
        whole = [list(zip(*each, strict=True)) for each in places.values() if len(each) == most]
        wide = [stdev(y) if len(y) > 1 else 0.0 for _, y in whole]
        return [mean(x) for x, _ in whole], [mean(y) for _, y in whole], wide

    def draw(self, axis: Any, lines: Sequence[Line], results: Sequence[Result], look: Mapping[str, Look]) -> list[str]:
        """Draws all samplers; returns what is said of each."""
        said = []
        for line in lines:  # so that the legend has the order of the table
            x, y, wide = self.of([each for each in results if each.identity["sampler"] == line.sampler])
            if not x:
                continue
            style = look[line.sampler].line
            axis.plot(x, y, label=shown_name(line.sampler), **style, markevery=max(1, len(x) // 8))
            if any(wide):
                low, high = ([mid + sign * half for mid, half in zip(y, wide, strict=True)] for sign in (-1, 1))
                axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            said.append(f"{line.sampler} ends at {y[-1]:.3g}")
        axis.set_xlim(left=0)
        if self.around is not None:
            axis.set_ylim(*_at_least(axis.get_ylim(), self.around))
        return said


@dataclass(frozen=True)
class Points:
    """A point for each sampler: hardness, and a share in percent. Lines to the sides are standard deviations."""

    name: str
    caption: str
    x_label: str
    y_label: str
    key: str

    def draw(self, axis: Any, lines: Sequence[Line], _: Sequence[Result], look: Mapping[str, Look]) -> list[str]:
        """Draws all samplers; returns what is said of each."""
        said = []
        for line in (each for each in lines if self.key in each.means and "hardness" in each.means):
            place = line.means["hardness"], 100 * line.means[self.key]
            wide = line.spreads.get("hardness"), 100 * line.spreads.get(self.key, 0.0) or None
            style = {"color": look[line.sampler].colour, "linestyle": "", "markersize": 8, "markeredgewidth": 1.6}
            label = f"{shown_name(line.sampler)}, MRR {line.means['valid_mrr']:.3f}"
            axis.errorbar(*place, xerr=wide[0], yerr=wide[1], label=label, **style, **look[line.sampler].point)
            said.append(f"{line.sampler} at {place[0]:.3f} and {place[1]:.3g} %")
        axis.margins(y=0.15)
        axis.set_xlim(*_at_least(axis.get_xlim(), _MIDDLE))
        axis.set_ylim(bottom=0)
        return said


def draw_plots(results: Sequence[Result]) -> list[Plot]:
    """Draws all plots. Empty if no cell has had a validation."""
    if not any(result.moments for result in results):
        return []
    look = looks([result.identity["sampler"] for result in results])
    found = {block: _Panel(lines, _of(results, block)) for block, lines in blocks(results).items()}
    plots: list[tuple[Curves | Points | ByNumber, dict[Block, _Panel]]] = []
    if any(block.num_negatives is not None for block in found):
        plots.append((ByNumber(), _over_numbers(found)))
    plots += [(plot, found) for plot in scorecard_plots(results)]
    with drawing() as plt:
        drawn = [_draw(plt, plot, panels, look) for plot, panels in plots]
    return [plot for plot in drawn if plot is not None]


def _of(results: Sequence[Result], block: Block) -> list[Result]:
    return [result for result in results if result.block == block]


def _over_numbers(found: Mapping[Block, "_Panel"]) -> dict[Block, "_Panel"]:
    """One panel in place of those that differ by the number of negatives alone; the samplers in their first order."""
    together: dict[Block, _Panel] = {}
    for block, panel in found.items():
        one = together.setdefault(block._replace(num_negatives=None), _Panel([], []))
        one.results.extend(panel.results)
        had = {line.sampler for line in one.lines}
        one.lines.extend(line for line in panel.lines if line.sampler not in had)
    return together


def scorecard_plots(results: Sequence[Result]) -> Iterator[Curves | Points]:
    """What is drawn of these results."""
    sampled = any(moment.sampled for result in results for moment in result.moments)
    mrr = "validation MRR (of a sample)" if sampled else "validation MRR"
    scored, hardness = "candidates scored, millions", "hardness (share of entities that score below)"

    def candidates(moment: Moment) -> int | float | None:
        return None if moment.candidates is None else moment.candidates / 1e6

    yield Curves(
        "mrr_by_candidates", "Validation MRR by candidates scored", scored, mrr, candidates, lambda moment: moment.mrr
    )
    yield Curves(
        "mrr_by_time",
        "Validation MRR by time",
        "seconds of training steps",
        mrr,
        lambda moment: moment.seconds,
        lambda moment: moment.mrr,
    )
    hidden = any("hidden_true" in result.figures for result in results)
    known = "true, in no split" if hidden else "facts of valid or test"
    yield Points(
        "false_negatives_by_hardness",
        "False negatives by hardness",
        hardness,
        f"false negatives ({known}), %",
        "hidden_true" if hidden else "unseen_true",
    )
    yield Points("diversity_by_hardness", "Diversity by hardness", hardness, "distinct draws of a query, %", "distinct")
    yield Curves(
        "hardness_by_candidates",
        "Hardness while training",
        scored,
        hardness,
        candidates,
        lambda moment: moment.hardness,
        _MIDDLE,
    )
    yield Curves(
        "active_by_candidates",
        "Active negatives while training",
        scored,
        "negatives that weigh in the loss, %",
        candidates,
        lambda moment: None if moment.active is None else 100 * moment.active,
        (0.0, 10.0),
    )


def _draw(
    plt: Any, plot: Curves | Points | ByNumber, panels: Mapping[Block, _Panel], look: Mapping[str, Look]
) -> Plot | None:
    """Draws all panels of a plot; None if there is nothing to draw."""
    across = min(len(panels), _MOST_ACROSS)
    down = -(-len(panels) // across)
    size = (_SIZE[0] * across, _SIZE[1] * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    said = []
    for axis, (block, panel) in zip(axes.flat, panels.items(), strict=False):
        axis.set(xlabel=plot.x_label, ylabel=plot.y_label)
        if len(panels) > 1:
            axis.set_title(shown_name(title(block)))
        drawn = plot.draw(axis, panel.lines, panel.results, look)
        if drawn:
            said.append(f"{title(block)}: {', '.join(drawn)}.")
    if not said:
        plt.close(figure)
        return None
    legend_below(figure, axes.flat[: len(panels)])
    return Plot(plot.name, as_svg(figure), plot.caption, f"{plot.y_label} by {plot.x_label}. {' '.join(said)}")


def _at_least(limits: tuple[float, float], around: tuple[float, float]) -> tuple[float, float]:
    return min(limits[0], around[0]), max(limits[1], around[1])
