"""The page of a run: what was run, its curves, its results by side, relation and class, and a look at its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graph.errors import InputError
from reporting import hard_negatives
from reporting.hard_negatives import HardNegative
from reporting.html_table import Cell, Head, Table
from reporting.page import Heading, Plot, render
from reporting.relation_ranks import FEWEST, Group, as_table, hardest
from reporting.run_curves import curves_by_stage
from reporting.run_files import is_number, mrr_in, number, read_metrics, read_options, read_result, still_rises
from trainer.checkpoint_files import shown
from trainer.evaluate import RankingMetrics

_METRICS = {"MRR": "mrr", "mean rank": "mean_rank", "Hits@1": "hits@1", "Hits@3": "hits@3", "Hits@10": "hits@10"}
_SIDES = {"both": "both sides", "head": "heads", "tail": "tails"}


@dataclass(frozen=True)
class Ranked:
    """A split as the run's model ranks it now."""

    split: str
    filtered_by: str
    checkpoint: str
    metrics: RankingMetrics
    classes: list[Group]
    relations: list[Group]


@dataclass(frozen=True)
class Findings:
    """What loading a run's model shows."""

    graph: str
    """A few lines about the graph."""
    ranked: Ranked | None
    """None if the graph has neither test nor valid triples."""
    negatives: list[HardNegative]
    entity_map: Plot | None


def as_page(heading: Heading, folder: Path, command: str, findings: Findings) -> str:
    """The page of the run in `folder`; `command` is what it was started with.

    Raises:
        InputError: a file of the run is damaged; names it.
    """
    result, lines = read_result(folder), read_metrics(folder / "metrics.jsonl")
    try:
        curves = curves_by_stage(lines)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    splits = [split for split in ("valid", "test") if split in result]
    ranked = findings.ranked
    return render(
        "run.html.jinja",
        title=f"Run {folder.name}",
        summary=[findings.graph.splitlines()[0], *_ended(folder, result), f"written {heading.written}"],
        cards=_cards(folder, result, splits),
        rises=_rises(lines),
        results=[_result_table(folder, result, splits)] if splits else [],
        ranked=ranked,
        checked=_checked(ranked),
        classes=as_table("By class of relations", ranked.classes, first="class") if ranked else None,
        hardest=as_table("Hardest relations", hardest(ranked.relations)) if ranked else None,
        fewest=FEWEST,
        relations=as_table("By relation", ranked.relations) if ranked else None,
        curves=list(curves.items()),
        negatives=hard_negatives.as_table(findings.negatives) if findings.negatives else None,
        entity_map=findings.entity_map,
        facts=_facts(heading, folder, command, result),
        graph=findings.graph,
    )


def _ended(folder: Path, result: Mapping[str, Any]) -> list[str]:
    if not result:
        return ["not finished"]
    ended = datetime.fromtimestamp((folder / "result.json").stat().st_mtime, UTC)
    return [f"ended {ended:%Y-%m-%d %H:%M} UTC"]


def _cards(folder: Path, result: Mapping[str, Any], splits: Sequence[str]) -> list[dict[str, str]]:
    path = folder / "result.json"
    return [
        {
            "what": f"{split} {name}",
            "who": f"{number(path, result, split, 'both', key):.4f}",
            "much": "filtered, both sides, realistic ties",
        }
        for split in reversed(splits)
        for name, key in (("MRR", "mrr"), ("Hits@10", "hits@10"))
    ]


def _rises(lines: Sequence[Mapping[str, Any]]) -> bool:
    last = [line for line in lines if line["stage"] == lines[-1]["stage"]]
    values = [line[name] for line in last if (name := mrr_in(line)) and is_number(line[name])]
    return still_rises(values)


def _result_table(folder: Path, result: Mapping[str, Any], splits: Sequence[str]) -> Table:
    path = folder / "result.json"
    heads = [Head("split and side", is_text=True), *(Head(name) for name in _METRICS), Head("ranked")]
    rows = [
        [
            Cell.of_text(f"{split}, {name}"),
            *(
                Cell.of_number(number(path, result, split, side, key), 1 if key == "mean_rank" else 4)
                for key in _METRICS.values()
            ),
            Cell.of_number(number(path, result, split, side, "count"), 0),
        ]
        for split in splits
        for side, name in _SIDES.items()
    ]
    return Table("Results", heads, rows, note="From result.json: filtered ranks among all entities, ties counted half.")


def _checked(ranked: Ranked | None) -> str:
    if ranked is None:
        return ""
    both = ranked.metrics.both
    return (
        f"Ranked for this page: {ranked.split}, {both['count'] // 2:,} triples, by checkpoint {ranked.checkpoint}, "
        f"filtered by {ranked.filtered_by}; MRR {both['mrr']:.4f}, Hits@10 {both['hits@10']:.4f}."
    )


def _facts(heading: Heading, folder: Path, command: str, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("command", command), ("typed options", ", ".join(read_options(folder)) or "none")]
    for key, name, unit in (
        ("seed", "seed", ""),
        ("world_size", "ranks", ""),
        ("steps", "steps", ""),
        ("best_step", "best step", ""),
        ("seconds", "training steps took", " s"),
        ("triples_per_second", "positives a second", ""),
        ("entity_numbers", "numbers an entity row", ""),
    ):
        if is_number(result.get(key)):
            facts.append((name, f"{result[key]:,.0f}{unit}"))
    made_by = result.get("made_by", {})
    if not isinstance(made_by, dict):
        raise InputError(f"{folder / 'result.json'}: made_by must be fields by name, got {shown(made_by)}")
    facts += [(str(name)[:40], str(value)[:200]) for name, value in list(made_by.items())[:20]]
    return [*facts, ("this page", f"{heading.command}, written {heading.written}")]
