"""The runs of a sweep, read from its folder: what varied, what each run reached, and which option mattered."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from graph.errors import InputError
from reporting.run_files import (
    as_typed,
    is_number,
    mrr_in,
    number,
    read_metrics,
    read_options,
    read_result,
    still_rises,
)
from trainer.checkpoint_files import is_file

SEED = "seed"
METRICS = ("valid_mrr", "test_mrr", "test_hits10", "seconds")
TITLES = {"valid_mrr": "MRR, valid", "test_mrr": "MRR, test", "test_hits10": "Hits@10, test", "seconds": "train s"}
_FOLLOWS = ("recipe", "graph.root")
"""Options that a run's folder has though nobody typed them, because others decide them."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Its folder, below that of the sweep."""
    options: Mapping[str, str]
    """What it was started with, by option."""
    figures: Mapping[str, float]
    """Those of `METRICS` that it has; empty for a run that has not ended."""
    rises: bool = False
    """Whether its last validation was its best."""
    typed: Sequence[str] = ()
    """The options as lines, as they were typed."""

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended with a result."""
        return bool(self.figures)


def read_sweep(folder: Path) -> list[SweepRun]:
    """All runs of a sweep, in the order of their folders' numbers.

    Raises:
        InputError: it holds no run, or a file of a run is damaged.
    """
    found = [path.parent for path in folder.rglob("overrides.yaml") if is_file(path)]
    # A job that failed before it began has left a folder with a number.
    found += [path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal() and path not in found]
    if not found or not any(is_file(path / "overrides.yaml") for path in found):
        raise InputError(f"sweep must be the folder of a sweep, with a folder for each run, got {folder}")
    return [_read(path, str(path.relative_to(folder))) for path in sorted(found, key=_natural)]


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", str(path))]


def _read(folder: Path, name: str) -> SweepRun:
    options = {}
    typed = as_typed(read_options(folder))
    for line in typed:
        key, _, value = line.lstrip("+~").partition("=")
        options[key] = value
    result, path = read_result(folder), folder / "result.json"
    figures: dict[str, float] = {}
    for key, split, metric in (
        ("valid_mrr", "valid", "mrr"),
        ("test_mrr", "test", "mrr"),
        ("test_hits10", "test", "hits@10"),
    ):
        if split in result:
            figures[key] = number(path, result, split, "both", metric)
    if result:
        figures["seconds"] = number(path, result, "seconds")
    lines = read_metrics(folder / "metrics.jsonl")
    last = [line for line in lines if line["stage"] == lines[-1]["stage"]]
    values = [line[key] for line in last if (key := mrr_in(line)) and is_number(line[key])]
    return SweepRun(name, options, figures, still_rises(values), typed)


def varied_options(runs: Sequence[SweepRun]) -> list[str]:
    """The options whose values differ between runs, in the order in which they were typed; the seed comes last."""
    started = [run for run in runs if run.options]
    keys = list(dict.fromkeys(key for run in started for key in run.options))
    varied = [key for key in keys if len({value_of(run, key) for run in started}) > 1]
    typed = [key for key in varied if key not in _FOLLOWS]
    others = [key for key in varied if key in _FOLLOWS and not any(_same_parts(started, key, other) for other in typed)]
    return sorted([*typed, *others], key=lambda key: key == SEED)


def value_of(run: SweepRun, key: str) -> str:
    """The value of an option as it was typed; a dash if the run was not given it."""
    return run.options.get(key, "-")


def _same_parts(runs: Iterable[SweepRun], key: str, other: str) -> bool:
    """Whether two options divide the runs in the same way."""
    pairs = {(value_of(run, key), value_of(run, other)) for run in runs}
    return len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


@dataclass(frozen=True)
class SeedGroup:
    """Finished runs that differ by their seed alone."""

    options: Mapping[str, str]
    runs: list[SweepRun] = field(default_factory=list)

    def mean(self, key: str) -> float | None:
        """The mean of a figure; None if a run lacks it."""
        values = self._values(key)
        return mean(values) if values else None

    def spread(self, key: str) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        values = self._values(key)
        return stdev(values) if len(values) > 1 else None

    def _values(self, key: str) -> list[float]:
        values = [run.figures[key] for run in self.runs if key in run.figures]
        return values if len(values) == len(self.runs) else []

    @property
    def name(self) -> str:
        """The options in one line."""
        return " ".join(f"{key}={value}" for key, value in self.options.items()) or "all runs"


def main_metric(runs: Sequence[SweepRun]) -> str | None:
    """What runs are compared by: validation MRR, or test MRR if the graph has no valid triples; None without either."""
    finished = [run for run in runs if run.is_finished]
    return next((key for key in METRICS[:2] if finished and all(key in run.figures for run in finished)), None)


def seed_groups(runs: Sequence[SweepRun]) -> list[SeedGroup]:
    """The finished runs, those that differ by seed alone together; best first by `main_metric`."""
    keys = [key for key in varied_options(runs) if key != SEED]
    groups: dict[tuple[str, ...], SeedGroup] = {}
    for run in (each for each in runs if each.is_finished):
        values = tuple(value_of(run, key) for key in keys)
        groups.setdefault(values, SeedGroup(dict(zip(keys, values, strict=True)))).runs.append(run)
    metric = main_metric(runs)
    return sorted(groups.values(), key=lambda group: -((metric and group.mean(metric)) or 0.0))


def variance_shares(runs: Sequence[SweepRun]) -> dict[str, float | None]:
    """For each varied option the share of the variance of `main_metric` that lies between its values, largest first.

    The share is eta squared of a one-way analysis of variance: 1 if runs with equal values have equal metrics, near 0
    if an option changes nothing. It sees no interaction between options. None: no value has two runs, so there is
    nothing to tell.
    """
    metric = main_metric(runs)
    finished = [run for run in runs if run.is_finished]
    if metric is None:
        return {}
    values = [run.figures[metric] for run in finished]
    total = sum((value - mean(values)) ** 2 for value in values)
    shares: dict[str, float | None] = {}
    for key in varied_options(runs):
        parts: dict[str, list[float]] = {}
        for run in finished:
            parts.setdefault(value_of(run, key), []).append(run.figures[metric])
        between = sum(len(part) * (mean(part) - mean(values)) ** 2 for part in parts.values())
        tells = total > 0 and len(parts) < len(finished)
        shares[key] = between / total if tells else None
    return dict(sorted(shares.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True))
