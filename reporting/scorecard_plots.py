"""A scorecard's plots: quality by cost, and properties of the negatives."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from graph.errors import InputError
from reporting.scorecard_table import Line, Moment, Result, blocks, title

_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6A3D9A",
    "#8C6D31",
    "#555555",
    "#B30000",
)
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": "#30363d",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_MOST_ACROSS = 3
_MIDDLE = (0.45, 0.55)
"""Smallest range of a hardness axis, so that noise around .5, the value of uniform draws, stays small."""


def colours(results: Sequence[Result]) -> dict[str, str]:
    """A colour for each sampler, the same in all plots and on the page."""
    samplers = list(dict.fromkeys(result.identity["sampler"] for result in results))
    return {sampler: _COLOURS[number % len(_COLOURS)] for number, sampler in enumerate(samplers)}


def draw_plots(results: Sequence[Result], folder: Path) -> dict[str, Path]:
    """Draws all plots; returns their files by caption. Empty if no cell has had a validation."""
    if not any(result.moments for result in results):
        return {}
    # Imported here, because the import is slow and a scorecard with a wrong option does not need it.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with plt.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
            return {caption: _save(folder / f"{name}.png", *plot) for caption, name, *plot in _plots(results)}
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error


def _plots(results: Sequence[Result]) -> Iterator[tuple[Any, ...]]:
    sampled = any(moment.sampled for result in results for moment in result.moments)
    mrr = "MRR, validation (of a sample)" if sampled else "MRR, validation"
    yield (
        "Validation MRR by candidates scored",
        "mrr_by_candidates",
        results,
        _curves(lambda moment: moment.candidates / 1e6, lambda moment: moment.mrr),
        ("candidates scored, millions", mrr),
    )
    yield (
        "Validation MRR by time",
        "mrr_by_time",
        results,
        _curves(lambda moment: moment.seconds, lambda moment: moment.mrr),
        ("seconds of training", mrr),
    )
    yield (
        "False negatives by hardness",
        "false_negatives_by_hardness",
        results,
        _points("hardness", None),
        ("hardness (share of entities below)", ""),
    )
    yield (
        "Diversity by hardness",
        "diversity_by_hardness",
        results,
        _points("hardness", "distinct"),
        ("hardness (share of entities below)", "distinct draws of a query, %"),
    )
    yield (
        "Hardness while training",
        "hardness_by_candidates",
        results,
        _curves(lambda moment: moment.candidates / 1e6, lambda moment: moment.hardness, around=_MIDDLE),
        ("candidates scored, millions", "hardness (share of entities below)"),
    )
    yield (
        "Active negatives while training",
        "active_by_candidates",
        results,
        _curves(lambda moment: moment.candidates / 1e6, lambda moment: 100 * moment.active, around=(0, 10)),
        ("candidates scored, millions", "negatives that weigh in the loss, %"),
    )


Draw = Callable[[Any, list[Line], list[Result], dict[str, str]], None]


def _save(path: Path, results: Sequence[Result], draw: Draw, labels: tuple[str, str]) -> Path:
    """Draws one panel for each block (discriminator, graph, ranks)."""
    import matplotlib.pyplot as plt

    lines, colour = blocks(results), colours(results)
    across = min(len(lines), _MOST_ACROSS)
    down = -(-len(lines) // across)
    figure, axes = plt.subplots(down, across, figsize=(6.0 * across, 4.0 * down), squeeze=False, layout="constrained")
    for axis in axes.flat[len(lines) :]:
        axis.set_visible(False)
    for axis, (block, part) in zip(axes.flat, lines.items(), strict=False):
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        if len(lines) > 1:
            axis.set_title(title(block), fontsize=11)
        draw(axis, part, [result for result in results if result.block == block], colour)
    figure.savefig(path, dpi=160)
    plt.close(figure)
    return path


def _curves(
    x: Callable[[Moment], float], y: Callable[[Moment], float], around: tuple[float, float] | None = None
) -> Draw:
    """A curve for each cell. `around` is the smallest range of the y axis."""

    def draw(axis: Any, lines: list[Line], results: list[Result], colour: dict[str, str]) -> None:
        named = set()
        for line in lines:  # so that the legend has the order of the table
            for result in results:
                if result.identity["sampler"] != line.sampler or not result.moments:
                    continue
                label = None if line.sampler in named else line.sampler
                named.add(line.sampler)
                axis.plot(
                    [x(moment) for moment in result.moments],
                    [y(moment) for moment in result.moments],
                    color=colour[line.sampler],
                    label=label,
                    linewidth=2,
                    marker="o",
                    markersize=3.5,
                )
        axis.set_xlim(left=0)
        if around is not None:
            axis.set_ylim(*_at_least(axis.get_ylim(), around))
        if named:
            axis.legend()

    return draw


def _points(x: str, y: str | None) -> Draw:
    """A point for each sampler, y in percent. Without `y`: false negatives, of hidden facts if the graph has them."""

    def draw(axis: Any, lines: list[Line], _: list[Result], colour: dict[str, str]) -> None:
        key = y or ("hidden_true" if any("hidden_true" in line.means for line in lines) else "unseen_true")
        if y is None:
            known = "true, in no split" if key == "hidden_true" else "of valid or test"
            axis.set_ylabel(f"false negatives ({known}), %")
        for line in lines:
            if key not in line.means:
                continue
            place = line.means[x], 100 * line.means[key]
            spread = line.spreads.get(x), 100 * line.spreads[key] if key in line.spreads else None
            label = f"{line.sampler}  {line.means['valid_mrr']:.3f}"
            drawn = {"color": colour[line.sampler], "marker": "o", "markersize": 10, "linestyle": "", "label": label}
            axis.errorbar(*place, xerr=spread[0], yerr=spread[1], **drawn)
        axis.margins(y=0.15)
        axis.set_xlim(*_at_least(axis.get_xlim(), _MIDDLE))
        axis.set_ylim(bottom=0)
        axis.legend(title="MRR, validation", loc="center left", bbox_to_anchor=(1.0, 0.5))

    return draw


def _at_least(limits: tuple[float, float], around: tuple[float, float]) -> tuple[float, float]:
    return min(limits[0], around[0]), max(limits[1], around[1])
