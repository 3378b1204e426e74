"""A scorecard's table: a line for each sampler, with means over seeds."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from reporting.scorecard_cell import IDENTITY, Block, Result
from reporting.scorecard_columns import COLUMNS, FIGURES, TO_TARGET, Column


@dataclass(frozen=True)
class Line:
    """A sampler in a block: means over its finished seeds."""

    sampler: str
    seeds: int
    means: dict[str, float]
    spreads: dict[str, float]
    """Standard deviations over seeds; empty for one seed."""
    errors: list[str]
    target: float | None
    """The validation MRR of the column "s to target", the same for all samplers of a block."""


TARGET = 0.9
"""The share of the best sampler's MRR that samplers are timed to."""


def target(results: Iterable[Result]) -> float | None:
    """The validation MRR that samplers of a block are timed to: 90 % of the best sampler's; None without validations.

    The best validation of each run counts, and the mean over seeds.
    """
    best: dict[str, list[float]] = {}
    for result in results:
        if result.error is None and result.moments:
            best.setdefault(result.identity["sampler"], []).append(max(moment.mrr for moment in result.moments))
    return TARGET * max(map(fmean, best.values())) if best else None


def _seconds_to(result: Result, mrr: float) -> float | None:
    return next((moment.seconds for moment in result.moments if moment.mrr >= mrr), None)


def blocks(results: Iterable[Result]) -> dict[Block, list[Line]]:
    """Lines by block, best validation MRR first; samplers without a finished seed come last."""
    grouped: dict[Block, dict[str, list[Result]]] = {}
    for result in results:
        grouped.setdefault(result.block, {}).setdefault(result.identity["sampler"], []).append(result)
    lines = {}
    for block, samplers in grouped.items():
        mrr = target(result for results in samplers.values() for result in results)
        found = (_line(*item, mrr) for item in samplers.items())
        lines[block] = sorted(found, key=lambda line: -line.means.get("valid_mrr", -1.0))
    return lines


def _line(sampler: str, results: Sequence[Result], mrr: float | None) -> Line:
    finished = [result for result in results if result.error is None]
    keys = [key for key in FIGURES if finished and all(key in result.figures for result in finished)]
    columns = {key: [result.figures[key] for result in finished] for key in keys}
    times = [] if mrr is None else [_seconds_to(result, mrr) for result in finished]
    reached = [time for time in times if time is not None]
    if reached and len(reached) == len(finished):
        columns[TO_TARGET] = reached
    spreads = {key: stdev(values) for key, values in columns.items() if len(values) > 1 and key != "rising"}
    errors = [f"seed {result.identity['seed']}: {result.error}" for result in results if result.error is not None]
    return Line(sampler, len(finished), {key: fmean(values) for key, values in columns.items()}, spreads, errors, mrr)


def shown(line: Line, column: Column) -> str:
    """The text of one figure of the table, with its standard deviation over seeds."""
    if column.key not in line.means:
        return "-"
    text = column.show(line.means[column.key])
    spread = line.spreads.get(column.key)
    return text if spread is None else f"{text} ± {column.show(spread).removesuffix(' %')}"


def mean_places(lines: Mapping[Block, Sequence[Line]]) -> dict[str, tuple[float, int]]:
    """Generality: each sampler's mean place by validation MRR over blocks, and the number of blocks; best first."""
    places: dict[str, list[int]] = {}
    for block in lines.values():
        for place, line in enumerate((line for line in block if line.seeds), 1):
            places.setdefault(line.sampler, []).append(place)
    return dict(sorted(((name, (fmean(all_), len(all_))) for name, all_ in places.items()), key=lambda item: item[1]))


def title(block: Block) -> str:
    """A title for a block."""
    parts = [f"{block.discriminator} on {block.graph}"]
    parts += [f"{block.num_negatives} negatives"] if block.num_negatives is not None else []
    parts += [f"{block.ranks} ranks"] if block.ranks > 1 else []
    return ", ".join(parts)


def as_csv(results: Iterable[Result]) -> str:
    """A row for each cell; a figure is empty if the cell failed or its graph does not have it."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [*IDENTITY, "error", *FIGURES], lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerow({**result.identity, "error": result.error or "", **result.figures})
    return file.getvalue()


def as_markdown(lines: dict[Block, list[Line]]) -> str:
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
    parts = [table, *(f"Target: validation MRR {line.target:.3f}." for line in lines[:1] if line.target is not None)]
    failures = [f"- {line.sampler}, {error}" for line in lines for error in line.errors]
    return "\n\n".join([*parts, *(["Failed:\n\n" + "\n".join(failures)] if failures else [])])
