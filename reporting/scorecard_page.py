"""The page of a scorecard: cards, a table for each block, plots, and what the columns mean."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import yaml

from reporting.html_table import Cell, Head, Table
from reporting.page import Heading, Plot, render
from reporting.scorecard_cell import Block, Result
from reporting.scorecard_columns import COLUMNS, TO_TARGET, Column
from reporting.scorecard_table import Line, blocks, mean_places, shown, title
from reporting.style import Look, looks
from trainer.checkpoint_files import is_file
from trainer.strict_yaml import read_yaml

_CLEAR = 0.1
"""The relative difference between best and worst from which shades have full strength."""
_STRONGEST = 0.35
_RISES = "↗ still rising"


def as_page(heading: Heading, results: Sequence[Result], plots: Sequence[Plot]) -> str:
    """The HTML page, with the plots inside. All names and texts are escaped."""
    lines = blocks(results)
    look = looks([result.identity["sampler"] for result in results])
    return render(
        "scorecard.html.jinja",
        title="Scorecard of negative samplers",
        summary=_summary(heading, results),
        cards=_cards(lines),
        failed=_failed(results),
        runs=len(results),
        tables=[_table(title(block), part, look) for block, part in lines.items()],
        places=_places(lines),
        plots=plots,
        columns=_meanings(COLUMNS),
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


def _cards(lines: Mapping[Block, Sequence[Line]]) -> list[dict[str, str]]:
    """The best sampler by each of some figures, if there is only one block."""
    if len(lines) != 1:
        return []
    (part,) = lines.values()
    finished = [line for line in part if line.means]
    if not finished:
        return []
    false = "hidden_true" if "hidden_true" in finished[0].means else "unseen_true"
    mrr = finished[0].target
    wanted = (
        ("Best model", "valid_mrr", 1, "validation MRR"),
        ("Soonest at a good MRR", TO_TARGET, -1, f"s of training to validation MRR {mrr or 0:.3f}"),
        ("Fastest step", "step_ms", -1, "ms a step"),
        ("Fewest false negatives", false, -1, "of its negatives"),
        ("Hardest negatives", "hardness", 1, "of entities score below"),
        ("Most diverse", "distinct", 1, "of a query's draws differ"),
    )
    columns = {column.key: column for column in COLUMNS}
    cards = []
    for what, key, sign, unit in wanted:
        have = [line for line in finished if key in line.means]
        if not have:
            continue
        show = (lambda value: f"{100 * value:.0f} %") if key == "hardness" else columns[key].show
        best = show(max((line.means[key] for line in have), key=lambda value: sign * value))
        who = [line.sampler for line in have if show(line.means[key]) == best]
        named = ", ".join(who) if len(who) < 3 else f"{len(who)} alike"
        rises = key == "valid_mrr" and any(line.means["rising"] for line in have if line.sampler in who)
        cards.append({"what": what, "who": named, "much": f"{best} {unit}{', still rising' if rises else ''}"})
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


def _meanings(columns: Iterable[Column]) -> list[tuple[str, list[tuple[str, str]]]]:
    groups = groupby(columns, key=lambda column: column.group)
    return [(name, [(column.title, column.meaning) for column in members]) for name, members in groups]


def _table(name: str, lines: Sequence[Line], look: Mapping[str, Look]) -> Table:
    columns = [column for column in COLUMNS if any(column.key in line.means for line in lines)]
    heads = [Head("sampler", is_text=True)]
    heads += [Head(column.title, column.meaning, group=column.group) for column in columns]
    rows = [[_name(line, look), *(_cell(line, column, lines) for column in columns)] for line in lines]
    mrr = next((line.target for line in lines), None)
    note = "" if mrr is None else f"The target: validation MRR {mrr:.3f}, 90 % of the best sampler's."
    return Table(name, heads, rows, note=note, is_wide=True)


def _name(line: Line, look: Mapping[str, Look]) -> Cell:
    notes = [f"{line.seeds} seeds"] if line.seeds > 1 else []
    notes += [_RISES] if line.means.get("rising") else []
    return Cell(line.sampler, line.sampler, spread=", ".join(notes), look=look[line.sampler])


def _cell(line: Line, column: Column, lines: Sequence[Line]) -> Cell:
    text, _, spread = shown(line, column).partition(" ± ")
    value = line.means.get(column.key)
    values = [other.means[column.key] for other in lines if column.key in other.means]
    least, most = min(values, default=0.0), max(values, default=0.0)
    strength, is_best = 0.0, False
    if value is not None and column.better and column.show(least) != column.show(most):
        # From -1, the worst, to 1, the best; differences of a few percent are faint.
        place = column.better * (2 * (value - least) / (most - least) - 1)
        clear = min(1.0, (most - least) / (_CLEAR * max(abs(least), abs(most))))
        strength = round(_STRONGEST * clear * place, 3)
        is_best = column.show(value) == column.show(most if column.better > 0 else least)
    return Cell(text, value, f"± {spread}" if spread else "", strength, is_best)


def _places(lines: Mapping[Block, Sequence[Line]]) -> Table | None:
    """Generality: each sampler's mean place by validation MRR, if there are several tables."""
    if len(lines) < 2:
        return None
    rows = [
        [Cell.of_text(sampler), Cell.of_number(place, 2), Cell.of_count(count)]
        for sampler, (place, count) in mean_places(lines).items()
    ]
    heads = [Head("sampler", is_text=True), Head("mean place by validation MRR"), Head("of tables")]
    return Table("Generality", heads, rows)


def _options(results: Sequence[Result]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for result in results:
        path = result.folder / "config.yaml"
        if result.identity["sampler"] in seen or not is_file(path):
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
