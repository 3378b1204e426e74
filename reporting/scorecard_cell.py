"""A scorecard's cell, which is one run: its figures and its validations, read from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from graph.errors import InputError
from reporting.cell_files import RECORD, read_record
from reporting.run_files import mrr_in, number, read_metrics, still_rises
from reporting.run_files import read_result as read_result_file
from reporting.scorecard_columns import MEASURED

IDENTITY = ("graph", "discriminator", "sampler", "num_negatives", "seed", "ranks")
_MEASURES = "quality/hardness"
"""In each line of a run whose negatives were measured (`quality=sampled`)."""


class Block(NamedTuple):
    """The samplers with the same block are compared with each other."""

    graph: str
    discriminator: str
    ranks: int
    num_negatives: int | None = None
    """None if the scorecard does not vary it."""


@dataclass(frozen=True)
class Moment:
    """The figures of one validation."""

    stage: str
    epoch: int
    """Of its stage, from 0."""
    seconds: int | float
    mrr: int | float
    sampled: bool
    """Whether the MRR is of a sample of the valid triples (`trainer.valid_sample`)."""
    candidates: int | float | None
    """None, like the next two, if the run did not measure its negatives."""
    hardness: int | float | None
    active: int | float | None


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
    def block(self) -> Block:
        """What its sampler is compared within."""
        return Block(*(self.identity[key] for key in Block._fields))


def read_result(folder: Path) -> Result:
    """Reads the result of a scorecard's cell from its folder.

    Raises:
        InputError: a file of it is damaged, or lacks a figure; names the file and the figure.
    """
    return result_of(folder, read_record(folder), is_measured=True)


def result_of(folder: Path, record: Mapping[str, Any], *, is_measured: bool) -> Result:
    """The result of a run, read from its folder.

    Args:
        record: what cell.json of a scorecard's cell has.
        is_measured: the run must have measured its negatives; else figures that it lacks are left out.
    Raises:
        InputError: see `read_result`.
    """
    identity = {key: record.get(key) for key in IDENTITY}  # those of earlier versions have no num_negatives
    path = folder / "metrics.jsonl"
    lines = read_metrics(path)
    found = [(line, name) for line in lines if (name := mrr_in(line)) and line["stage"] != "pretrain_generator"]
    moments = [_moment(path, line, name) for line, name in found if not is_measured or "cost/candidates" in line]
    result = read_result_file(folder)
    is_ranked = "valid" in result and "test" in result
    figures = _figures(folder, record, result, lines, is_measured=is_measured) if is_ranked else {}
    no_split = "its graph has no valid or no test triples, which samplers are compared by"
    error = None if figures else no_split if result else record["error"]
    budget, epochs = record["limit"]["budget"], record["limit"]["epochs"]
    limit = f"{epochs} epochs each" if budget is None else f"{budget / 1e6:g} M scored candidates each at most"
    return Result(identity, error, figures, moments, limit, record["wall_seconds"], folder)


def _moment(path: Path, line: Mapping[str, Any], name: str) -> Moment:
    has = _MEASURES in line
    return Moment(
        stage=line["stage"],
        epoch=int(number(path, line, "epoch")),
        seconds=number(path, line, "cost/seconds" if "cost/seconds" in line else "speed/seconds"),
        mrr=number(path, line, name),
        sampled=name.startswith("valid_sample"),
        candidates=number(path, line, "cost/candidates") if has else None,
        hardness=number(path, line, _MEASURES) if has else None,
        active=number(path, line, "quality/active") if has else None,
    )


def _figures(
    folder: Path, record: Mapping[str, Any], result: Any, lines: Sequence[dict[str, Any]], *, is_measured: bool
) -> dict[str, float]:
    path, metrics = folder / "result.json", folder / "metrics.jsonl"
    last = [line for line in lines if line["stage"] == lines[-1]["stage"] and mrr_in(line)]
    figures: dict[str, float] = {
        "valid_mrr": number(path, result, "valid", "both", "mrr"),
        "test_mrr": number(path, result, "test", "both", "mrr"),
        "test_hits10": number(path, result, "test", "both", "hits@10"),
        "rising": float(still_rises([number(metrics, line, mrr_in(line) or "") for line in last])),
        "epochs": number(folder / RECORD, record, "epochs"),
        "seconds": number(path, result, "seconds"),
    }
    measured = [line for line in lines if _MEASURES in line]
    last = [line for line in last if _MEASURES in line]
    steps = [number(metrics, line, "cost/step_seconds") for line in last if "cost/step_seconds" in line]
    if steps:
        figures["candidates"] = number(metrics, measured[-1], "cost/candidates")
        figures["step_ms"] = 1000 * mean(steps)
        figures["peak_mb"] = max(number(metrics, line, "cost/peak_mb") for line in measured)
    elif is_measured:
        raise InputError(
            f"{metrics}: the last stage must have a validation with quality/... and cost/..., but has none"
        )
    for key in MEASURED:
        values = [number(metrics, line, f"quality/{key}") for line in last if f"quality/{key}" in line]
        if values:
            figures[key] = mean(values)
    return figures
