"""A scorecard as one HTML file without scripts or links, with its images inside."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path

import yaml

from launch.provenance import describe
from launch.scorecard_plots import colours
from launch.scorecard_table import COLUMNS, Column, Line, Result, blocks, mean_places, shown, title
from launch.strict_yaml import read_yaml

_GOOD, _BAD, _STRONG = (46, 160, 90), (222, 90, 70), (70, 130, 200)
_CLEAR = 0.1
"""The relative difference between best and worst from which colours have full strength."""
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: #1f2933; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 28px; margin: 0 0 2px; letter-spacing: -.3px; }
h2 { font-size: 19px; margin: 34px 0 10px; }
h3 { font-size: 15px; margin: 18px 0 4px; }
.sub { color: #52606d; margin: 0 0 18px; }
.cards { display: flex; gap: 12px; }
.card { flex: 1; background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 12px 14px; }
.card .what { color: #66727f; font-size: 12.5px; }
.card .who { font-size: 17px; font-weight: 650; margin: 1px 0; overflow-wrap: anywhere; }
.card .much { font-size: 13px; color: #3e4c59; }
.panel { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 6px 10px 10px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #52606d; text-align: right; padding: 5px 4px; vertical-align: bottom; line-height: 1.2; }
th.group { text-align: center; color: #1f2933; border-bottom: 2px solid #d5dce3; padding-top: 8px; }
td { text-align: right; padding: 7px 4px; border-top: 1px solid #eceff2; white-space: nowrap; }
td.best { font-weight: 700; }
td.first { border-left: 5px solid #fff; }
th.name, td.name { text-align: left; font-size: 13.5px; font-weight: 600; }
.spread { display: block; color: #66727f; font-size: 11px; font-weight: 400; line-height: 1.1; }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px; }
.legend { color: #66727f; font-size: 12.5px; margin: 6px 2px 0; }
.swatch { display: inline-block; width: 28px; height: 10px; border-radius: 3px; margin: 0 3px 0 10px; }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
.plots.wide { grid-template-columns: 1fr; }
figure { margin: 0; background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 10px 12px 6px; }
figcaption { font-weight: 600; font-size: 14px; margin-bottom: 6px; }
figure img { width: 100%; display: block; }
dl { display: grid; grid-template-columns: 120px 1fr; gap: 4px 14px; margin: 0; font-size: 14px; }
dt { font-weight: 600; } dd { margin: 0; color: #3e4c59; }
details { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 8px 14px; margin-bottom: 8px; }
summary { cursor: pointer; font-weight: 600; }
pre { font-size: 12.5px; white-space: pre-wrap; margin: 8px 0 4px; color: #323f4b; }
code { background: #e9edf1; border-radius: 4px; padding: 1px 5px; font-size: 13px; overflow-wrap: anywhere; }
.failed { background: #fff1ee; border: 1px solid #f2b8ab; border-radius: 10px; padding: 8px 16px; margin: 14px 0; }
.failed ul { margin: 4px 0; padding-left: 20px; }
"""
_ASSUMED = """The error of a score learned by noise-contrastive estimation is
(1/p<sub>d</sub> &minus; 1 + 1/(k p<sub>n</sub>) &minus; 1/k) / T, for T positives and k negatives of each (Yang et al.,
KDD 2020, theorem 2). It holds for one fixed query whose scores are free parameters, for independent draws, for
T p<sub>d</sub> and k T p<sub>n</sub> much larger than 1, and for a sampler that does not follow the model. None of
this is so for embeddings: entities share parameters and a query has few answers. Read the column as how well a sampler
covers the true answers, not as a forecast. Here p<sub>d</sub> of a query is equal over its train answers and
p<sub>n</sub> is counted in repeated proposals, each mixed with some of the uniform distribution (a tenth and a half by
default); the same is done with uniform draws, and the ratio of the two means is shown, in which T cancels. A sampler
that never draws a true answer avoids false negatives and pays for it here: that is the dilemma."""


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
    """The HTML page; `plots` are image files by caption."""
    lines = blocks(results)
    parts = [
        f"<h1>Scorecard of negative samplers</h1><p class='sub'>{_summary(heading, results)}</p>",
        _cards(lines),
        _failures(results),
        *(_block(title(block), part, colours(results)) for block, part in lines.items()),
        _generality(lines),
        _figures(plots, wide=len(lines) > 1),
        _explanations(),
        _options(results),
        _run(heading, results),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Scorecard of negative samplers</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def _summary(heading: Heading, results: Sequence[Result]) -> str:
    def named(key: str) -> list[str]:
        return list(dict.fromkeys(str(result.identity[key]) for result in results))

    samplers = named("sampler")
    seeds = named("seed")
    parts = [
        f"{len(samplers)} samplers",
        f"{', '.join(named('discriminator'))} on {', '.join(named('graph'))}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}",
        " or ".join(dict.fromkeys(result.limit for result in results)),
        heading.written,
    ]
    return escape(" · ".join(parts))


def _cards(lines: Mapping[tuple[str, str, int], Sequence[Line]]) -> str:
    """The best sampler by each of some figures, if there is only one block."""
    if len(lines) != 1:
        return ""
    (part,) = lines.values()
    finished = [line for line in part if line.means]
    if not finished:
        return ""
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
        cards.append(
            f"<div class='card'><div class='what'>{what}</div><div class='who'>{escape(named)}</div>"
            f"<div class='much'>{best} {unit}</div></div>"
        )
    return f"<div class='cards'>{''.join(cards)}</div>"


def _failures(results: Sequence[Result]) -> str:
    failed = [result for result in results if result.error is not None]
    if not failed:
        return ""
    items = "".join(
        f"<li><b>{escape(', '.join(str(value) for value in list(result.identity.values())[:3]))}</b>, seed "
        f"{result.identity['seed']}: {escape(result.error or '')}</li>"
        for result in failed
    )
    return f"<div class='failed'><b>{len(failed)} of {len(results)} runs failed</b><ul>{items}</ul></div>"


def _block(name: str, lines: Sequence[Line], colour: Mapping[str, str]) -> str:
    columns = [column for column in COLUMNS if any(column.key in line.means for line in lines)]
    groups = [(group, list(members)) for group, members in groupby(columns, key=lambda column: column.group)]
    first = {members[0].key for _, members in groups}
    above = "".join(f"<th class='group' colspan='{len(members)}'>{group}</th>" for group, members in groups)
    heads = "".join(f"<th title='{escape(column.meaning)}'>{escape(column.title)}</th>" for column in columns)
    rows = "".join(
        f"<tr><td class='name'><span class='dot' style='background:{colour[line.sampler]}'></span>"
        f"{escape(line.sampler)}{_seeds(line)}</td>"
        + "".join(_cell(line, column, lines, first=column.key in first) for column in columns)
        + "</tr>"
        for line in lines
    )
    legend = "".join(
        f"<span class='swatch' style='background:rgba{(*rgb, 0.35)}'></span>{meaning}"
        for rgb, meaning in ((_GOOD, "best"), (_BAD, "worst of the column"), (_STRONG, "high, neither good nor bad"))
    )
    return (
        f"<h2>{escape(name)}</h2><div class='panel'><table><thead><tr><th></th>{above}</tr>"
        f"<tr><th class='name'>sampler</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p class='legend'>{legend}. Negatives are measured at the validations of the last stage; means of these. "
        "What follows ± is the standard deviation over seeds.</p></div>"
    )


def _seeds(line: Line) -> str:
    return f"<span class='spread'>{line.seeds} seeds</span>" if line.seeds > 1 else ""


def _cell(line: Line, column: Column, lines: Sequence[Line], *, first: bool) -> str:
    text, _, spread = shown(line, column).partition(" ± ")
    small = f"<span class='spread'>± {escape(spread)}</span>" if spread else ""
    values = [other.means[column.key] for other in lines if column.key in other.means]
    value = line.means.get(column.key)
    classes, style = ["first"] if first else [], ""
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
        style = f" style='background:rgba{(*rgb, round(strength, 3))}'"
    named = f" class='{' '.join(classes)}'" if classes else ""
    return f"<td{named}{style}>{escape(text)}{small}</td>"


def _generality(lines: Mapping[tuple[str, str, int], Sequence[Line]]) -> str:
    if len(lines) < 2:
        return ""
    rows = "".join(
        f"<tr><td class='name'>{escape(sampler)}</td><td>{place:.2f}</td><td>{count}</td></tr>"
        for sampler, (place, count) in mean_places(lines).items()
    )
    return (
        "<h2>Generality</h2><div class='panel'><table style='width:auto'><thead><tr><th class='name'>sampler</th>"
        f"<th>mean place by validation MRR</th><th>of tables</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _figures(plots: Mapping[str, Path], *, wide: bool) -> str:
    if not plots:
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f"<img alt='{escape(caption)}' src='data:image/png;base64,{_base64(path)}'></figure>"
        for caption, path in plots.items()
    )
    return f"<h2>Plots</h2><div class='plots{' wide' if wide else ''}'>{figures}</div>"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _explanations() -> str:
    parts = []
    for group, members in groupby(COLUMNS, key=lambda column: column.group):
        items = "".join(f"<dt>{escape(column.title)}</dt><dd>{escape(column.meaning)}</dd>" for column in members)
        parts.append(f"<h3>{group}</h3><dl>{items}</dl>")
    return (
        f"<h2>What the columns mean</h2><div class='panel'>{''.join(parts)}"
        f"<h3>What the NCE error takes for granted</h3><p style='font-size:14px'>{_ASSUMED}</p></div>"
    )


def _options(results: Sequence[Result]) -> str:
    seen: dict[str, str] = {}
    for result in results:
        path = result.folder / "config.yaml"
        if result.identity["sampler"] in seen or not path.is_file():
            continue
        config = read_yaml(path)
        groups = ("generator", "loss", "optimizer", "discriminator", "trainer", "pretrain")
        kept = {key: config[key] for key in groups if isinstance(config, dict) and key in config}
        seen[result.identity["sampler"]] = yaml.safe_dump(kept, sort_keys=False)
    folds = "".join(
        f"<details><summary>{escape(sampler)}</summary><pre>{escape(text)}</pre></details>"
        for sampler, text in seen.items()
    )
    return f"<h2>Options of each sampler</h2>{folds}" if folds else ""


def _run(heading: Heading, results: Sequence[Result]) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(heading, results))
    return f"<h2>What was run</h2><div class='panel'><dl>{facts}</dl></div>"


def _facts(heading: Heading, results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    yield "command", heading.command
    yield "runs", str(len(results))
    yield "ranks", ", ".join(sorted({str(result.identity["ranks"]) for result in results}))
    seconds = sum(result.wall_seconds for result in results)
    yield "time", f"{seconds / 60:.1f} minutes, with validation and measuring"
    for name, value in heading.machine.items():
        yield name, str(value)
    yield "written", heading.written
