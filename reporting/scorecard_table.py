"""A scorecard's figures: a row for each cell, a line for each sampler, and the meaning of each column."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from graph.errors import InputError
from reporting.cell_files import RECORD, number, read_metrics, read_record
from trainer.checkpoint_files import read_json
from trainer.validation import GROUPS

IDENTITY = ("graph", "discriminator", "sampler", "seed", "ranks")


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    title: str
    group: str
    show: Callable[[float], str]
    better: int
    """1 if higher is better, -1 if lower is, 0 if neither is."""
    meaning: str


def _digits(count: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{count}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.0f} %"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


MODEL, FALSE, HARD, DIVERSE, COST = (
    "Improves the model",
    "Avoids false negatives",
    "Hardness",
    "Diversity",
    "Cost",
)
COLUMNS = (
    Column("valid_mrr", "MRR, valid", MODEL, _digits(4), 1, "Filtered MRR on validation, of the best checkpoint."),
    Column("test_mrr", "MRR, test", MODEL, _digits(4), 1, "Filtered MRR of the same checkpoint on test."),
    Column("test_hits10", "Hits@10", MODEL, _digits(3), 1, "Of the same checkpoint on test."),
    Column("known_true", "in train", FALSE, _percent, -1, "Share of negatives that are train facts."),
    Column(
        "hidden_true",
        "hidden",
        FALSE,
        _percent,
        -1,
        "Share of negatives that are true and in no split. Only the built-in graph knows them.",
    ),
    Column(
        "unseen_true",
        "held out",
        FALSE,
        _percent,
        -1,
        "Share of negatives that are facts of valid or test: for this report alone, nothing is chosen by it.",
    ),
    Column(
        "hardness",
        "rank",
        HARD,
        _digits(3),
        0,
        "Share of all entities that score below the negative for the same query, equal ones counted half: 0 easiest, "
        "1 hardest, .5 for uniform draws. Known answers are not filtered out.",
    ),
    Column(
        "active",
        "active",
        HARD,
        _share,
        0,
        "Share of negatives that weigh something in the loss: whose slope is above a tenth of what each would have if "
        "all of the positive's negatives scored far above it. In the margin ranking loss: a hinge that is not 0.",
    ),
    Column(
        "gradient_norm",
        "gradient",
        HARD,
        _digits(3),
        0,
        "L2 norm of the loss's slopes by the negatives' scores, of one positive; mean over positives.",
    ),
    Column(
        "distinct",
        "distinct",
        DIVERSE,
        _share,
        1,
        "Different entities among equally many draws for one query, as a share of the draws.",
    ),
    Column(
        "entropy",
        "entropy",
        DIVERSE,
        _digits(3),
        1,
        "Entropy of the draws of all queries together, by log of entities.",
    ),
    Column("coverage", "coverage", DIVERSE, _share, 1, "Share of entities that were drawn for any query."),
    Column(
        "nce_error",
        "NCE error",
        DIVERSE,
        _digits(2),
        -1,
        "Expected squared error of a score learned from these negatives by noise-contrastive estimation, over the true "
        "answers, relative to uniform negatives; above 1 is worse. See below for what this takes for granted.",
    ),
    Column(
        "candidates",
        "scored, M",
        COST,
        lambda value: f"{value / 1e6:.1f}",
        0,
        "Millions of candidates scored, in all stages.",
    ),
    Column("epochs", "epochs", COST, _digits(0), 0, "Of the last stage, which the budget allowed."),
    Column("seconds", "train s", COST, _digits(0), -1, "Seconds of all training steps; without validation."),
    Column("step_ms", "ms a step", COST, _digits(1), -1, "Median of a step of the last stage."),
    Column("peak_mb", "peak MB", COST, _digits(0), -1, "Most memory that a rank's process (or its GPU) held."),
)
FIGURES = tuple(column.key for column in COLUMNS)
_MEASURED = tuple(column.key for column in COLUMNS if column.group in {FALSE, HARD, DIVERSE})
"""The figures that `quality` measures: means over the validations of the last stage."""


_MRR = tuple(f"{group}/mrr" for group in GROUPS)


@dataclass(frozen=True)
class Moment:
    """The figures of one validation."""

    candidates: float
    seconds: float
    mrr: float
    sampled: bool
    """Whether the MRR is of a sample of the valid triples (`trainer.valid_sample`)."""
    hardness: float
    active: float


@dataclass(frozen=True)
class Result:
    """The result of a cell."""

    identity: dict[str, Any]
    error: str | None
    figures: dict[str, float]
    moments: list[Moment]
    """Validations of the discriminator, in all stages that train it."""
    limit: str
    """The budget or number of epochs, as a text."""
    wall_seconds: float
    folder: Path

    @property
    def block(self) -> tuple[str, str, int]:
        """The samplers with the same block are compared with each other."""
        return self.identity["graph"], self.identity["discriminator"], self.identity["ranks"]


def read_result(folder: Path) -> Result:
    """Reads the result of a cell from its folder.

    Raises:
        InputError: a file of it is damaged, or lacks a figure; names the file and the figure.
    """
    record = read_record(folder)
    identity = {key: record[key] for key in IDENTITY}
    path = folder / "metrics.jsonl"
    lines = _metrics(path)
    moments = [
        Moment(
            candidates=number(path, line, "cost/candidates"),
            seconds=number(path, line, "cost/seconds"),
            mrr=number(path, line, name),
            sampled=name == _MRR[1],
            hardness=number(path, line, "quality/hardness"),
            active=number(path, line, "quality/active"),
        )
        for line in lines
        if (name := _mrr_in(line)) and "cost/candidates" in line and line["stage"] != "pretrain_generator"
    ]
    result_file = folder / "result.json"
    result = read_json(result_file) if result_file.is_file() else {}
    if not isinstance(result, dict):
        raise InputError(f"{result_file} is damaged: it must be fields by name, got {str(result)[:80]}")
    is_ranked = "valid" in result and "test" in result
    figures = _figures(folder, record, result, lines) if is_ranked else {}
    no_split = "its graph has no valid or no test triples, which samplers are compared by"
    error = None if figures else no_split if result else record["error"]
    budget, epochs = record["limit"]["budget"], record["limit"]["epochs"]
    limit = f"{epochs} epochs each" if budget is None else f"{budget / 1e6:g} M scored candidates each at most"
    return Result(identity, error, figures, moments, limit, record["wall_seconds"], folder)


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; if a resumed run wrote a step again, the later line."""
    lines = read_metrics(path)
    return list({(line["step"], line["stage"], "loss" in line, _mrr_in(line)): line for line in lines}.values())


def _mrr_in(line: Mapping[str, Any]) -> str | None:
    """The name of the MRR in the line of a validation; None in another line."""
    return next((name for name in _MRR if name in line), None)


def _figures(
    folder: Path, record: dict[str, Any], result: dict[str, Any], lines: list[dict[str, Any]]
) -> dict[str, float]:
    path, metrics = folder / "result.json", folder / "metrics.jsonl"
    measured = [line for line in lines if "quality/hardness" in line]
    last = [line for line in measured if line["stage"] == lines[-1]["stage"] and _mrr_in(line)]
    steps = [number(metrics, line, "cost/step_seconds") for line in last if "cost/step_seconds" in line]
    if not steps:
        raise InputError(
            f"{metrics}: the last stage must have a validation with quality/... and cost/..., but has none"
        )
    figures: dict[str, float] = {
        "valid_mrr": number(path, result, "valid", "both", "mrr"),
        "test_mrr": number(path, result, "test", "both", "mrr"),
        "test_hits10": number(path, result, "test", "both", "hits@10"),
        "epochs": number(folder / RECORD, record, "epochs"),
        "candidates": number(metrics, measured[-1], "cost/candidates"),
        "seconds": number(path, result, "seconds"),
        "step_ms": 1000 * mean(steps),
        "peak_mb": max(number(metrics, line, "cost/peak_mb") for line in measured),
    }
    for key in _MEASURED:
        values = [number(metrics, line, f"quality/{key}") for line in last if f"quality/{key}" in line]
        if values:
            figures[key] = mean(values)
    return figures


@dataclass(frozen=True)
class Line:
    """A sampler in a block: means over its finished seeds."""

    sampler: str
    seeds: int
    means: dict[str, float]
    spreads: dict[str, float]
    """Standard deviations over seeds; empty for one seed."""
    errors: list[str]


def blocks(results: Iterable[Result]) -> dict[tuple[str, str, int], list[Line]]:
    """Lines by block, best validation MRR first; samplers without a finished seed come last."""
    grouped: dict[tuple[str, str, int], dict[str, list[Result]]] = {}
    for result in results:
        grouped.setdefault(result.block, {}).setdefault(result.identity["sampler"], []).append(result)
    return {
        block: sorted((_line(*item) for item in samplers.items()), key=lambda line: -line.means.get("valid_mrr", -1.0))
        for block, samplers in grouped.items()
    }


def _line(sampler: str, results: Sequence[Result]) -> Line:
    finished = [result for result in results if result.error is None]
    keys = [key for key in FIGURES if finished and all(key in result.figures for result in finished)]
    columns = {key: [result.figures[key] for result in finished] for key in keys}
    spreads = {key: stdev(values) for key, values in columns.items() if len(values) > 1}
    errors = [f"seed {result.identity['seed']}: {result.error}" for result in results if result.error is not None]
    return Line(sampler, len(finished), {key: mean(values) for key, values in columns.items()}, spreads, errors)


def shown(line: Line, column: Column) -> str:
    """The text of one figure of the table, with its standard deviation over seeds."""
    if column.key not in line.means:
        return "-"
    text = column.show(line.means[column.key])
    spread = line.spreads.get(column.key)
    return text if spread is None else f"{text} ± {column.show(spread).removesuffix(' %')}"


def mean_places(lines: Mapping[tuple[str, str, int], Sequence[Line]]) -> dict[str, tuple[float, int]]:
    """Generality: each sampler's mean place by validation MRR over blocks, and the number of blocks; best first."""
    places: dict[str, list[int]] = {}
    for block in lines.values():
        for place, line in enumerate((line for line in block if line.seeds), 1):
            places.setdefault(line.sampler, []).append(place)
    return dict(sorted(((name, (mean(all_), len(all_))) for name, all_ in places.items()), key=lambda item: item[1]))


def title(block: tuple[str, str, int]) -> str:
    """A title for a block."""
    graph, discriminator, ranks = block
    return f"{discriminator} on {graph}" + (f", {ranks} ranks" if ranks > 1 else "")


def as_csv(results: Iterable[Result]) -> str:
    """A row for each cell; a figure is empty if the cell failed or its graph does not have it."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [*IDENTITY, "error", *FIGURES], lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerow({**result.identity, "error": result.error or "", **result.figures})
    return file.getvalue()


def as_markdown(lines: dict[tuple[str, str, int], list[Line]]) -> str:
    """A markdown table for each block, aligned so that it can be read in a terminal."""
    return "\n\n".join(f"{title(block)}\n\n{_aligned(part)}" for block, part in lines.items()) + "\n"


def _aligned(lines: Sequence[Line]) -> str:
    columns = [column for column in COLUMNS if any(column.key in line.means for line in lines)]
    rows = [["sampler", "seeds", *(column.title for column in columns)]]
    rows += [[line.sampler, str(line.seeds), *(shown(line, column) for column in columns)] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [
        [cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(cells)]
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    rule = [":" + "-" * (width - 1) if place == 0 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:]))
    failures = [f"- {line.sampler}, {error}" for line in lines for error in line.errors]
    return "\n\n".join([table, *(["Failed:\n\n" + "\n".join(failures)] if failures else [])])
