"""A scorecard as one HTML file without scripts or links, with its images inside."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.provenance import describe
from reporting.scorecard_plots import colours
from reporting.scorecard_table import COLUMNS, Column, Line, Result, blocks, mean_places, shown, title
from trainer.strict_yaml import read_yaml

_GOOD, _BAD, _STRONG = (46, 160, 90), (222, 90, 70), (70, 130, 200)
_CLEAR = 0.1
"""The relative difference between best and worst from which colours have full strength."""
_TEMPLATE = "scorecard_page.html.jinja"


@dataclass(frozen=True)
class Heading:
    """The command of a scorecard, its machine, and its time."""

    command: str
    machine: Mapping[str, str | int]
    written: str

    @classmethod
    def of(cls, command: str) -> "Heading":
        """A heading with this machine and the present time."""
        return cls(command, describe(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


def as_page(heading: Heading, results: Sequence[Result], plots: Mapping[str, Path]) -> str:
    """The HTML page; `plots` are image files by caption. All names and texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    lines = blocks(results)
    return environment.get_template(_TEMPLATE).render(
        summary=_summary(heading, results),
        cards=_cards(lines),
        failed=_failed(results),
        runs=len(results),
        tables=[_table(title(block), part, colours(results)) for block, part in lines.items()],
        legend=[
            (_rgba(_GOOD, 0.35), "best"),
            (_rgba(_BAD, 0.35), "worst of the column"),
            (_rgba(_STRONG, 0.35), "high, neither good nor bad"),
        ],
        places=mean_places(lines) if len(lines) > 1 else {},
        images={caption: base64.b64encode(path.read_bytes()).decode() for caption, path in plots.items()},
        columns=_groups(COLUMNS),
        options=_options(results),
        facts=list(_facts(heading, results)),
    )


def _summary(heading: Heading, results: Sequence[Result]) -> list[str]:
    def named(key: str) -> list[str]:
        return list(dict.fromkeys(str(result.identity[key]) for result in results))

    samplers = named("sampler")
    seeds = named("seed")
    return [
        f"{len(samplers)} samplers",
        f"{', '.join(named('discriminator'))} on {', '.join(named('graph'))}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}",
        " or ".join(dict.fromkeys(result.limit for result in results)),
        heading.written,
    ]


def _cards(lines: Mapping[tuple[str, str, int], Sequence[Line]]) -> list[dict[str, str]]:
    """The best sampler by each of some figures, if there is only one block."""
    if len(lines) != 1:
        return []
    (part,) = lines.values()
    finished = [line for line in part if line.means]
    if not finished:
        return []
    false = "hidden_true" if "hidden_true" in finished[0].means else "unseen_true"
    wanted = (
        ("Best model", "valid_mrr", 1, "validation MRR"),
        ("Fewest false negatives", false, -1, "of its negatives"),
        ("Hardest negatives", "hardness", 1, "of entities score below"),
        ("Most diverse", "distinct", 1, "of a query's draws differ"),
        ("Fastest", "seconds", -1, "s of training"),
    )
    columns = {column.key: column for column in COLUMNS}
    cards = []
    for what, key, sign, unit in wanted:
        show = (lambda value: f"{100 * value:.0f} %") if key == "hardness" else columns[key].show
        best = show(max((line.means[key] for line in finished), key=lambda value: sign * value))
        who = [line.sampler for line in finished if show(line.means[key]) == best]
        named = ", ".join(who) if len(who) < 3 else f"{len(who)} alike"
        cards.append({"what": what, "who": named, "much": f"{best} {unit}"})
    return cards


def _failed(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            "what": ", ".join(str(value) for value in list(result.identity.values())[:3]),
            "seed": result.identity["seed"],
            "error": result.error,
        }
        for result in results
        if result.error is not None
    ]


def _groups(columns: Iterable[Column]) -> list[dict[str, Any]]:
    groups = groupby(columns, key=lambda column: column.group)
    return [{"name": name, "columns": list(members)} for name, members in groups]


def _table(name: str, lines: Sequence[Line], colour: Mapping[str, str]) -> dict[str, Any]:
    columns = [column for column in COLUMNS if any(column.key in line.means for line in lines)]
    groups = _groups(columns)
    first = {group["columns"][0].key for group in groups}
    rows = [
        {
            "sampler": line.sampler,
            "seeds": line.seeds,
            "colour": colour[line.sampler],
            "cells": [_cell(line, column, lines, first=column.key in first) for column in columns],
        }
        for line in lines
    ]
    return {"title": name, "groups": groups, "rows": rows}


def _rgba(rgb: tuple[int, int, int], strength: float) -> str:
    return f"rgba{(*rgb, strength)}"


def _cell(line: Line, column: Column, lines: Sequence[Line], *, first: bool) -> dict[str, str]:
    text, _, spread = shown(line, column).partition(" ± ")
    values = [other.means[column.key] for other in lines if column.key in other.means]
    value = line.means.get(column.key)
    classes, colour = ["first"] if first else [], ""
    least, most = min(values, default=0.0), max(values, default=0.0)
    if value is not None and column.show(least) != column.show(most):
        place = (value - least) / (most - least)
        # Differences of a few percent are faint.
        strength = 0.35 * min(1.0, (most - least) / (_CLEAR * max(abs(least), abs(most))))
        if column.better:
            rgb = _GOOD if (place > 0.5) == (column.better > 0) else _BAD
            strength *= abs(2 * place - 1)
            best = most if column.better > 0 else least
            classes += ["best"] if column.show(value) == column.show(best) else []
        else:
            rgb, strength = _STRONG, strength * place
        colour = _rgba(rgb, round(strength, 3))
    return {"text": text, "spread": spread, "classes": " ".join(classes), "colour": colour}


def _options(results: Sequence[Result]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for result in results:
        path = result.folder / "config.yaml"
        if result.identity["sampler"] in seen or not path.is_file():
            continue
        config = read_yaml(path)
        groups = ("generator", "loss", "optimizer", "discriminator", "trainer", "pretrain")
        kept = {key: config[key] for key in groups if isinstance(config, dict) and key in config}
        seen[result.identity["sampler"]] = yaml.safe_dump(kept, sort_keys=False)
    return seen


def _facts(heading: Heading, results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    yield "command", heading.command
    yield "runs", str(len(results))
    yield "ranks", ", ".join(sorted({str(result.identity["ranks"]) for result in results}))
    seconds = sum(result.wall_seconds for result in results)
    yield "time", f"{seconds / 60:.1f} minutes, with validation and measuring"
    for name, value in heading.machine.items():
        yield name, str(value)
    yield "written", heading.written
