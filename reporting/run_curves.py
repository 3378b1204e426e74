"""The curves of a run: everything that metrics.jsonl has, by stage."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from graph.errors import InputError
from reporting.page import Plot
from reporting.run_files import is_number
from reporting.style import Look, as_png, as_svg, drawing, legend_below, shown_name
from trainer.checkpoint_files import shown
from trainer.validation import GROUPS

_MOST_POINTS = 300
"""Of a curve. Of more lines, neighbours are averaged."""
_MOST_STAGES, _MOST_OTHERS = 10, 60
"""More are in no run, but in a file that someone made to keep us busy."""
_STEPS = "training steps"


@dataclass(frozen=True)
class _Family:
    """Metrics that are drawn together."""

    name: str
    caption: str
    y_label: str
    labels: Mapping[str, str]
    """The label of each metric by its name in metrics.jsonl."""
    scale: float = 1.0


def _validation(group: str) -> tuple[_Family, ...]:
    of = "" if group == "valid" else ", of a sample"
    sides = {"both": "both sides", "head": "heads", "tail": "tails"}
    return (
        _Family(
            f"{group}_metrics",
            f"Validation{of}",
            "filtered, both sides",
            {f"{group}/both/{key}": label for key, label in _METRICS.items()},
        ),
        _Family(
            f"{group}_sides",
            f"Validation MRR by side{of}",
            "filtered MRR",
            {f"{group}/{side}/mrr": label for side, label in sides.items()},
        ),
        _Family(
            f"{group}_mean_rank",
            f"Validation mean rank{of}",
            "filtered mean rank",
            {f"{group}/both/mean_rank": "mean rank"},
        ),
    )


_METRICS = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@10": "Hits@10"}
_FAMILIES = (
    _Family("loss", "Loss", "loss, mean of a batch", {"loss": "loss"}),
    *(family for group in GROUPS for family in _validation(group)),
    _Family(
        "scores",
        "Scores",
        "score, mean of a batch",
        {"train/positive_score": "positives", "train/negative_score": "negatives"},
    ),
    _Family(
        "true_negatives",
        "Negatives that are true",
        "share of negatives, %",
        {
            "negatives/known_true": "facts of train",
            "negatives/held_out_true": "facts of valid or test",
            "negatives/hidden_true": "true, in no split",
        },
        100.0,
    ),
    _Family("reward", "Reward of the generator", "reward, mean of a batch", {"generator/reward": "reward"}),
    _Family(
        "entropy", "Entropy of the generator", "entropy of a query's draws, nats", {"generator/entropy": "entropy"}
    ),
    _Family(
        "hardness",
        "Hardness of the negatives",
        "share of entities that score below",
        {"quality/hardness": "hardness"},
    ),
    _Family(
        "active",
        "Negatives that weigh in the loss",
        "share of negatives, %",
        {"quality/active": "active"},
        100.0,
    ),
    _Family(
        "diversity",
        "Diversity of the negatives",
        "share, from 0 to 1",
        {"quality/distinct": "distinct", "quality/entropy": "entropy", "quality/coverage": "coverage"},
    ),
    _Family("learning_rate", "Learning rate", "learning rate", {"train/lr": "learning rate"}),
    _Family("speed", "Speed", "positives a second", {"speed/triples_per_second": "speed"}),
)
_OF_RANK = re.compile(r"usage/rank_(\d{1,4})/([a-z_]{1,40})")
_NAMED = {key for family in _FAMILIES for key in family.labels}
_LEFT_OUT = ("step", "epoch", "speed/seconds", "cost/seconds", "quality/known_true", *(f"{group}/" for group in GROUPS))


@dataclass(frozen=True)
class StageLines:
    """The lines of metrics.jsonl of one stage, and what is drawn of them."""

    name: str
    lines: list[Mapping[str, Any]]
    families: list[_Family]


def by_stage(path: Path, lines: Sequence[Mapping[str, Any]]) -> list[StageLines]:
    """The stages, in the order in which they were trained.

    Args:
        path: the file, for errors.
        lines: what `reporting.run_files.read_metrics` gives.
    Raises:
        InputError: more stages or metrics than any run has.
    """
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        stages.setdefault(line["stage"], []).append(line)
    if len(stages) > _MOST_STAGES:
        raise InputError(f"{path} must have at most {_MOST_STAGES} stages, got {len(stages)}")
    return [StageLines(name, own, _families(path, own)) for name, own in stages.items()]


def draw_curves(stages: Sequence[StageLines]) -> list[tuple[str, list[Plot]]]:
    """The plots of each stage by its name."""
    with drawing() as plt:
        drawn = [
            [_draw(plt, f"stage{number}_{family.name}", family, stage.lines) for family in stage.families]
            for number, stage in enumerate(stages)
        ]
    return [
        (stage.name, [plot for plot in plots if plot is not None]) for stage, plots in zip(stages, drawn, strict=True)
    ]


def draw_images(stages: Sequence[StageLines]) -> dict[str, bytes]:
    """The same plots as PNG files, by names of a stage and of what is drawn, as in `adversarial_learning_rate`."""
    images = {}
    with drawing() as plt:
        for stage in stages:
            for family in stage.families:
                if (curves := _curves(plt, family, stage.lines)) is not None:
                    images[f"{stage.name}_{family.name}"] = as_png(curves.figure)
    return images


def _families(path: Path, lines: Sequence[Mapping[str, Any]]) -> list[_Family]:
    """The known families, one for each metric of ranks, then one for each other metric of these lines."""
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if is_number(value))
    of_ranks: dict[str, dict[str, str]] = {}
    others = []
    for key in keys:
        if of_rank := _OF_RANK.fullmatch(key):
            of_ranks.setdefault(of_rank[2], {})[key] = f"rank {of_rank[1]}"
        elif key not in _NAMED and not key.startswith(_LEFT_OUT):
            others.append(key)
    ranks = [_Family(f"ranks_{name}", f"{name}, by rank", name, labels) for name, labels in of_ranks.items()]
    if len(others) + len(ranks) > _MOST_OTHERS:
        raise InputError(
            f"{path} must have at most {_MOST_OTHERS} metrics that no run of this project has, got "
            f"{len(others) + len(ranks)}, such as {shown(others[0])}"
        )
    return [
        *_FAMILIES,
        *ranks,
        *(_Family(f"other{number}", key, key, {key: key}) for number, key in enumerate(others)),
    ]


@dataclass(frozen=True)
class _Curves:
    """A figure, not yet a file."""

    figure: Any
    alt: str
    note: str


def _draw(plt: Any, name: str, family: _Family, lines: Sequence[Mapping[str, Any]]) -> Plot | None:
    curves = _curves(plt, family, lines)
    return None if curves is None else Plot(name, as_svg(curves.figure), family.caption, curves.alt, curves.note)


def _curves(plt: Any, family: _Family, lines: Sequence[Mapping[str, Any]]) -> _Curves | None:
    """The curves of a family; None if these lines have none of its metrics."""
    curves = {label: _points(lines, key, family.scale) for key, label in family.labels.items()}
    curves = {label: points for label, points in curves.items() if points}
    if not curves:
        return None
    figure, axis = plt.subplots(figsize=(4.6, 2.9), layout="constrained")
    said = []
    for number, (label, points) in enumerate(curves.items()):
        x, y = zip(*_thinned(points), strict=True)
        marker = {} if len(x) <= 40 else {"marker": ""}
        axis.plot(x, y, label=shown_name(label), **(Look.of(number).line | marker))
        said.append(f"{label} from {y[0]:.3g} at step {x[0]:.0f} to {y[-1]:.3g} at step {x[-1]:.0f}")
    axis.set(xlabel=_STEPS, ylabel=shown_name(family.y_label))
    if len(curves) > 1:
        legend_below(figure, [axis])
    each = max(-(-len(points) // _MOST_POINTS) for points in curves.values())
    note = "" if each == 1 else f"A point is the mean of {each} lines of metrics.jsonl."
    alt = f"{family.y_label} by {_STEPS}: {'; '.join(said)}."
    return _Curves(figure, alt, note)


def _points(lines: Sequence[Mapping[str, Any]], key: str, scale: float) -> list[tuple[float, float]]:
    return [(float(line["step"]), scale * float(line[key])) for line in lines if is_number(line.get(key))]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS` points, each the mean of equally many neighbours."""
    each = -(-len(points) // _MOST_POINTS)
    parts = (points[first:end] for first, end in pairwise([*range(0, len(points), each), len(points)]))
    return [(mean(x for x, _ in part), mean(y for _, y in part)) for part in parts]
