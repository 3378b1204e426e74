"""The page of a run: what was run, its curves, its results by side, relation and class, and a look at its model."""

from collections.abc import Mapping
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
from reporting.run_curves import StageLines, by_stage, draw_curves
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
from trainer.checkpoint_files import shown
from trainer.evaluate import RankingMetrics

_METRICS = {"MRR": "mrr", "mean rank": "mean_rank", "Hits@1": "hits@1", "Hits@3": "hits@3", "Hits@10": "hits@10"}
_COUNTS = (
    ("seed", "seed", ""),
    ("world_size", "ranks", ""),
    ("steps", "steps", ""),
    ("best_step", "best step", ""),
    ("seconds", "training steps took", " s"),
    ("triples_per_second", "train triples a second, while steps were made", ""),
    ("entity_numbers", "numbers an entity row", ""),
)
"""Fields of result.json, with their names on the page and their units."""
_LONGEST, _MOST_FACTS = 200, 20
"""Of what result.json says of the machine."""
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


@dataclass(frozen=True)
class Record:
    """What the files of a run's folder say, checked."""

    folder: Path
    options: list[str]
    """What was typed."""
    stages: list[StageLines]
    splits: list[str]
    """Those that result.json has metrics of."""
    results: dict[tuple[str, str], list[float]]
    """`_METRICS`, then the number of ranks, by split and side."""
    made_by: Mapping[str, Any]
    counts: list[tuple[str, str]]
    """Further numbers of result.json, with their names."""
    ended: datetime | None


def read_record(folder: Path) -> Record:
    """Reads the files of a run.

    Raises:
        InputError: a file is damaged; names it.
    """
    path, result = folder / "result.json", read_result(folder)
    splits = [split for split in ("valid", "test") if split in result]
    metrics = folder / "metrics.jsonl"
    stages = by_stage(metrics, read_metrics(metrics))
    made_by = result.get("made_by", {})
    if not isinstance(made_by, dict):
        raise InputError(f"{path}: made_by must be fields by name, got {shown(made_by)}")
    return Record(
        folder=folder,
        options=as_typed(read_options(folder)),
        stages=stages,
        splits=splits,
        results={
            (split, side): [number(path, result, split, side, key) for key in (*_METRICS.values(), "count")]
            for split in splits
            for side in _SIDES
        },
        made_by=made_by,
        counts=[(name, f"{result[key]:,.0f}{unit}") for key, name, unit in _COUNTS if is_number(result.get(key))],
        ended=datetime.fromtimestamp(path.stat().st_mtime, UTC) if result else None,
    )


def as_page(heading: Heading, record: Record, command: str, findings: Findings) -> str:
    """The page of a run; `command` is what it was started with."""
    ranked = findings.ranked
    ended = "not finished" if record.ended is None else f"ended {record.ended:%Y-%m-%d %H:%M} UTC"
    return render(
        "run.html.jinja",
        title=f"Run {record.folder.name}",
        summary=[findings.graph.splitlines()[0], ended, f"written {heading.written}"],
        cards=_cards(record),
        rises=bool(record.stages) and _rises(record.stages[-1]),
        results=[_result_table(record)] if record.splits else [],
        ranked=ranked,
        checked=_checked(ranked),
        classes=as_table("By class of relations", ranked.classes, first="class") if ranked else None,
        hardest=as_table("Hardest relations", hardest(ranked.relations)) if ranked else None,
        fewest=FEWEST,
        relations=as_table("By relation", ranked.relations) if ranked else None,
        curves=draw_curves(record.stages),
        negatives=hard_negatives.as_table(findings.negatives) if findings.negatives else None,
        entity_map=findings.entity_map,
        facts=_facts(heading, record, command),
        graph=findings.graph,
    )


def _cards(record: Record) -> list[dict[str, str]]:
    return [
        {
            "what": f"{split} {name}",
            "who": f"{record.results[split, 'both'][list(_METRICS).index(name)]:.4f}",
            "much": "filtered; heads and tails; a tie counts half",
        }
        for split in reversed(record.splits)
        for name in ("MRR", "Hits@10")
    ]


def _rises(stage: StageLines) -> bool:
    values = [line[name] for line in stage.lines if (name := mrr_in(line)) and is_number(line[name])]
    return still_rises(values)


def _result_table(record: Record) -> Table:
    heads = [Head("split and side", is_text=True), *(Head(name) for name in _METRICS), Head("ranked")]
    digits = [*(1 if key == "mean_rank" else 4 for key in _METRICS.values()), 0]
    rows = [
        [Cell.of_text(f"{split}, {_SIDES[side]}"), *map(Cell.of_number, map(float, values), digits)]
        for (split, side), values in record.results.items()
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


def _facts(heading: Heading, record: Record, command: str) -> list[tuple[str, str]]:
    made_by = [(str(name)[:_LONGEST], str(value)[:_LONGEST]) for name, value in record.made_by.items()][:_MOST_FACTS]
    typed = ("typed options", ", ".join(record.options) or "none")
    page = ("this page", f"{heading.command}, written {heading.written}")
    return [("command", command), typed, *record.counts, *made_by, page]
