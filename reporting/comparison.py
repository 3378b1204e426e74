"""Runs side by side: metrics with confidence intervals, differences to the first run, and the options that differ."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from reporting.bootstrap import CONFIDENCE, METRICS, Interval, intervals, resampled_means, values_of
from trainer.evaluate import TripleRanks

_NOT_TRAINING = ("typed", "suggested", "resume", "launch", "tracker", "graph.root", "graph.cache")
"""Options that do not change what is trained."""


@dataclass(frozen=True)
class Comparison:
    """What is known of runs that were ranked on the same triples."""

    graph: str
    split: str
    triples: int
    resamples: int
    seed: int
    metrics: dict[str, dict[str, Interval]]
    """By run, then by metric (see `reporting.bootstrap.METRICS`)."""
    differences: dict[str, dict[str, Interval]]
    """The same for each run after the first one: its metrics minus those of the first one."""
    options: dict[str, list[str]]
    """For each option that differs, its value in each run; a dash where a run has none."""


def compare(
    ranks: Mapping[str, TripleRanks],
    configs: Sequence[Mapping[str, Any]],
    *,
    graph: str,
    split: str,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compares runs.

    Args:
        ranks: of the same triples, by the name of the run.
        configs: the options of each run.
        seed: of the resampled triples.
    """
    values = torch.stack([values_of(each) for each in ranks.values()])
    means = resampled_means(values, resamples=resamples, seed=seed)
    whole = values.mean(1)
    names = list(ranks)
    return Comparison(
        graph=graph,
        split=split,
        triples=values.shape[1],
        resamples=resamples,
        seed=seed,
        metrics=_by_run(names, whole, means),
        differences=_by_run(names[1:], whole[1:] - whole[:1], means[:, 1:] - means[:, :1]),
        options=_different(configs),
    )


def _by_run(names: Sequence[str], whole: torch.Tensor, means: torch.Tensor) -> dict[str, dict[str, Interval]]:
    low, high = intervals(whole, means)
    columns = zip(names, whole.tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: dict(zip(METRICS, map(Interval, *bounds), strict=True)) for name, *bounds in columns}


def _different(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    flat = [dict(_leaves("", _by_name(config))) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [_typed(each.get(key, "-")) for each in flat] for key in keys if not _is_left_out(key)}
    return {key: each for key, each in values.items() if len(set(each)) > 1}


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options without the classes that they name, which are shown as the choice of their group: the class's file.

    A discriminator's class is that of its scoring function.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(value, Mapping):
            found[key] = value
            continue
        target = value.get("_target_")
        if key == "discriminator" and isinstance(value.get("scoring"), Mapping):
            target = value["scoring"].get("_target_")
        if isinstance(target, str) and target.count(".") >= 2:
            found[key] = target.split(".")[-2]
        found |= {f"{key}.{name}": part for name, part in _without_targets(value).items()}
    return found


def _without_targets(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_targets(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in ("_target_", "_partial_")
    }


def _typed(value: Any) -> str:
    """A value as it is typed on a command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _is_left_out(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in _NOT_TRAINING)


def _leaves(key: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(key, value)]
    return [leaf for name, part in value.items() for leaf in _leaves(f"{key}.{name}" if key else str(name), part)]


def as_text(comparison: Comparison) -> str:
    """Tables to print."""
    width = max(len("run"), *map(len, comparison.metrics), *map(len, comparison.options), 1)
    lines = [f"{'run':<{width}}" + "".join(f"{title:>28}" for title in METRICS.values())]
    lines += [_row(name, metrics, width, signed=False) for name, metrics in comparison.metrics.items()]
    first = next(iter(comparison.metrics))
    lines += ["", f"minus {first}"]
    lines += [_row(name, metrics, width, signed=True) for name, metrics in comparison.differences.items()]
    lines += ["", "options that differ" if comparison.options else "no options differ"]
    lines += [f"{key:<{width}}  {' | '.join(values)}" for key, values in comparison.options.items()]
    return "\n".join([*lines, "", described(comparison)])


def described(comparison: Comparison) -> str:
    """How the intervals were made, in a sentence."""
    return (
        f"{comparison.split} of {comparison.graph}, {comparison.triples:,} triples by head and by tail; brackets: "
        f"{CONFIDENCE:.0%} intervals of a paired bootstrap over triples ({comparison.resamples:,} resamples, seed "
        f"{comparison.seed}); * the interval of a difference leaves out 0"
    )


def _row(name: str, metrics: Mapping[str, Interval], width: int, *, signed: bool) -> str:
    return f"{name:<{width}}" + "".join(
        f"{in_words(interval, metric, signed=signed):>28}" for metric, interval in metrics.items()
    )


def in_words(interval: Interval, metric: str, *, signed: bool) -> str:
    """An interval as a text, a clear difference with a star."""
    digits = 1 if metric == "mean_rank" else 4
    form = f"{'+' if signed else ''}.{digits}f"
    star = "*" if signed and interval.is_clear else ""
    return f"{interval.value:{form}}{star} [{interval.low:{form}}, {interval.high:{form}}]"


def as_json(comparison: Comparison) -> str:
    """All fields."""
    return json.dumps(asdict(comparison), indent=1)


def as_csv(comparison: Comparison) -> str:
    """A row for each run and metric; differences to the first run, which has none of its own, follow the metric."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", "metric", "value", "low", "high", "difference", "difference_low", "difference_high"])
    for run, metrics in comparison.metrics.items():
        for metric, own in metrics.items():
            minus = comparison.differences.get(run, {}).get(metric)
            difference = ["", "", ""] if minus is None else [minus.value, minus.low, minus.high]
            table.writerow([run, metric, own.value, own.low, own.high, *difference])
    return text.getvalue()
