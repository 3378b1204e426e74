"""The statistics of a prepared graph as a table of text and as JSON values."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graph.portrait import Portrait
from graph.preparation import Removed

FORMAT = "advkge prepared graph 1"
LEAKS = {
    "reversed": ("reversed, another relation", "train has (t, r', h) with another relation r', such as an inverse"),
    "mirrored": ("reversed, same relation", "train has (t, r, h): the relation is symmetric here"),
    "other_relation": ("same two, another relation", "train has (h, r', t) with another relation r'"),
}
"""A title and a meaning of each count of `SplitLeaks`, for a triple (h, r, t) of valid or test."""
_RELATIONS_SHOWN = 20


@dataclass(frozen=True)
class Prepared:
    """A prepared graph's statistics, and how it was made."""

    source: str
    """The name of the file or folder that was read."""
    how: str
    """One sentence: whether the splits are those of the source, or how they were drawn."""
    read: dict[str, int]
    """Triples read, by split; all are "train" if the source has no splits."""
    wrong_lines: dict[str, int]
    """Lines that are no triples and were left out, by reason."""
    removed: Removed
    portrait: Portrait


def as_json(prepared: Prepared) -> dict[str, Any]:
    """Everything, as values for statistics.json."""
    portrait = asdict(prepared.portrait)
    relations = portrait.pop("relation")
    return {
        "format": FORMAT,
        "source": prepared.source,
        "how": prepared.how,
        "read": prepared.read,
        "wrong_lines": prepared.wrong_lines,
        "removed": asdict(prepared.removed),
        **portrait,
        "cardinality": prepared.portrait.cardinality,
        "relation": relations,
    }


def removed_rows(prepared: Prepared) -> list[tuple[str, int]]:
    """What was left out, in words, and how many lines or triples."""
    removed = prepared.removed
    return [
        *((f"lines that are no triple ({reason})", count) for reason, count in prepared.wrong_lines.items()),
        ("duplicates", removed.duplicates),
        ("valid triples that train has", removed.repeated_valid),
        ("test triples that train or valid has", removed.repeated_test),
        ("valid triples with an entity or a relation that train lacks", removed.uncovered_valid),
        ("test triples with an entity or a relation that train lacks", removed.uncovered_test),
    ]


def as_text(prepared: Prepared) -> str:
    """The table that the command prints."""
    portrait = prepared.portrait
    degrees = portrait.degrees
    lines = [
        f"{prepared.source}: {sum(prepared.read.values()):,} triples read; {prepared.how}",
        *(f"left out: {count:,} {what}" for what, count in removed_rows(prepared) if count),
        f"{portrait.entities:,} entities, {portrait.relations:,} relations; degree of an entity in train: "
        f"median {degrees.median:,}, mean {degrees.mean:.1f}, {degrees.least:,} to {degrees.most:,}",
        "",
        *_aligned(_split_rows(prepared)),
        "",
        *_aligned(_class_rows(portrait)),
        "",
        *_aligned(_relation_rows(portrait)),
    ]
    if len(portrait.relation) > _RELATIONS_SHOWN:
        lines.append(f"... and {len(portrait.relation) - _RELATIONS_SHOWN:,} more in statistics.html")
    return "\n".join(lines)


def _split_rows(prepared: Prepared) -> Iterator[list[str]]:
    portrait = prepared.portrait
    yield ["", *portrait.triples]
    yield ["triples", *(f"{count:,}" for count in portrait.triples.values())]
    for key, (title, _) in LEAKS.items():
        yield [
            title,
            *(
                f"{getattr(portrait.leaks[split], key):,}" if split in portrait.leaks else ""
                for split in portrait.triples
            ),
        ]
    yield [
        "a name that train lacks",
        *(f"{portrait.uncovered[split]:,}" if split in portrait.uncovered else "" for split in portrait.triples),
    ]


def _class_rows(portrait: Portrait) -> Iterator[list[str]]:
    yield ["class", "relations", *portrait.triples]
    for kind, counts in portrait.cardinality.items():
        yield [kind, f"{counts['relations']:,}", *(f"{counts[split]:,}" for split in portrait.triples)]


def _relation_rows(portrait: Portrait) -> Iterator[list[str]]:
    yield ["relation", "class", *portrait.triples, "tails per head", "heads per tail"]
    for row in portrait.relation[:_RELATIONS_SHOWN]:
        name = row.name if len(row.name) <= 60 else f"{row.name[:57]}..."
        counts = [f"{getattr(row, split):,}" for split in portrait.triples]
        yield [name, row.cardinality, *counts, f"{row.tails_per_head:.2f}", f"{row.heads_per_tail:.2f}"]


def _aligned(rows: Iterator[list[str]]) -> list[str]:
    cells: Sequence[list[str]] = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
