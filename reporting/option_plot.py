"""A plot of a metric by each option that was varied: a panel for each option, a point for each run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reporting.style import GRID, PALETTE, as_svg, drawing, legend_below, shown_name

_MOST_ACROSS = 2
"""More beside each other would be too small to read on a telephone."""
_MOST_VALUES = 12
"""Of an option whose values are words; more would be unreadable."""


@dataclass(frozen=True)
class OptionPoint:
    """A run: its options and its metric."""

    options: Mapping[str, Any]
    value: float
    is_finished: bool = True
    """False for a run that was stopped early."""


def draw_by_option(
    points: Sequence[OptionPoint], keys: Sequence[str], y_label: str, logarithmic: Sequence[str] = ()
) -> str:
    """An SVG.

    Args:
        keys: the options, a panel for each.
        logarithmic: options with an axis in powers of ten.
    """
    across = min(len(keys), _MOST_ACROSS)
    down = -(-len(keys) // across)
    ways = ((False, "v", "none", "stopped early"), (True, "o", PALETTE[0], "ran to its end"))
    with drawing() as plt:
        size = (1 + 2.7 * across, 2.9 * down)
        figure, axes = plt.subplots(down, across, figsize=size, sharey=True, squeeze=False, layout="constrained")
        for axis in axes.flat[len(keys) :]:
            axis.set_visible(False)
        for axis, key in zip(axes.flat, keys, strict=False):
            for is_finished, marker, inside, label in ways:
                shown = [point for point in points if point.is_finished == is_finished]
                shown = sorted(shown, key=lambda point: _order(point.options.get(key)))
                x = [_place(point.options.get(key)) for point in shown]
                style = {"s": 26, "marker": marker, "facecolors": inside, "edgecolors": PALETTE[0], "alpha": 0.8}
                if shown:
                    axis.scatter(x, [point.value for point in shown], label=label, **style)
            axis.set_xlabel(shown_name(key))
            if key in logarithmic:
                axis.set_xscale("log")
                # matplotlib's own labels of powers are formulas, which plots with names of any kind do not read.
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.xaxis.set_minor_formatter("")
            words = {_place(point.options.get(key)) for point in points}
            if any(isinstance(each, str) for each in words):
                axis.tick_params(axis="x", rotation=30 if len(words) < _MOST_VALUES else 90)
            axis.grid(color=GRID)
        for axis in axes[:, 0]:
            axis.set_ylabel(y_label)
        if any(not point.is_finished for point in points):
            legend_below(figure, axes.flat[:1])
        return as_svg(figure)


def _order(value: Any) -> tuple[float, str]:
    """Sorts numbers by value, also those that are texts, and then words."""
    try:
        return float(value), ""
    except (TypeError, ValueError):
        return math.inf, str(value)


def _place(value: Any) -> Any:
    return value if isinstance(value, int | float) else shown_name(str(value))
