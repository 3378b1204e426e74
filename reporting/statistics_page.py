"""The page of a prepared graph's statistics."""

from reporting.html_table import Cell, Head, Table
from reporting.page import render
from reporting.statistics_table import LEAKS, Prepared, removed_rows

_MOST_RELATIONS = 1000


def as_page(prepared: Prepared, command: str) -> str:
    """The HTML page. All names are escaped.

    Args:
        command: what was typed to make the graph.
    """
    read = sum(prepared.read.values())
    return render(
        "statistics.html.jinja",
        title=f"{prepared.source}: statistics",
        summary=[f"{read:,} triples read", prepared.how],
        cards=_cards(prepared),
        removed=Table(
            "Left out",
            [Head("what", is_text=True), Head("triples")],
            [[Cell.of_text(what), Cell.of_count(count)] for what, count in removed_rows(prepared) if count],
        ),
        leaks=_leaks(prepared),
        classes=_classes(prepared),
        degrees=_degrees(prepared),
        relations=_relations(prepared),
        facts=[("command", command)],
    )


def _cards(prepared: Prepared) -> list[dict[str, str]]:
    portrait = prepared.portrait
    total = sum(portrait.triples.values())
    cards = [
        {"what": f"{split} triples", "who": f"{count:,}", "much": f"{count / total:.1%}"}
        for split, count in portrait.triples.items()
    ]
    cards += [{"what": "entities", "who": f"{portrait.entities:,}", "much": ""}]
    return [*cards, {"what": "relations", "who": f"{portrait.relations:,}", "much": ""}]


def _leaks(prepared: Prepared) -> Table:
    portrait = prepared.portrait
    counts = [
        (meaning, {split: getattr(each, key) for split, each in portrait.leaks.items()})
        for key, (_, meaning) in LEAKS.items()
    ]
    counts.append(("has an entity or a relation that train lacks", portrait.uncovered))
    heads = [Head("a triple (h, r, t) of the split", is_text=True)]
    heads += [Head(title, group=split) for split in portrait.leaks for title in ("triples", "share, %")]
    rows = [
        [
            Cell.of_text(meaning),
            *(
                cell
                for split, count in of_split.items()
                for cell in (Cell.of_count(count), Cell.of_number(100 * count / portrait.triples[split], 1))
            ),
        ]
        for meaning, of_split in counts
    ]
    note = "A model that only remembers pairs of entities answers such triples; results then say little about it."
    return Table("What train gives away", heads, rows if portrait.leaks else [], note=note)


def _classes(prepared: Prepared) -> Table:
    portrait = prepared.portrait
    heads = [Head("class", is_text=True), Head("relations"), *(Head(split) for split in portrait.triples)]
    rows = [
        [Cell.of_text(kind), *(Cell.of_count(counts[key]) for key in ("relations", *portrait.triples))]
        for kind, counts in portrait.cardinality.items()
    ]
    note = "1-N: a head has many tails, at least 1.5 on average in train (Bordes et al., NIPS 2013)."
    return Table("Classes of relations", heads, rows, note=note)


def _degrees(prepared: Prepared) -> Table:
    degrees = prepared.portrait.degrees
    most = max(count for _, _, count in degrees.counts)
    rows = [
        [
            Cell(f"{low:,}" if low == high else f"{low:,} to {high:,}", low),
            Cell(f"{count:,}", count, bar=count / most),
        ]
        for low, high, count in degrees.counts
    ]
    top = ", ".join(f"{name} ({degree:,})" for name, degree in degrees.most_connected)
    note = f"Median {degrees.median}, mean {degrees.mean:.1f}. Highest: {top}."
    return Table("Degrees of entities in train", [Head("degree"), Head("entities")], rows, note=note)


def _relations(prepared: Prepared) -> Table:
    portrait = prepared.portrait
    heads = [Head("relation", is_text=True), Head("class", is_text=True)]
    heads += [Head(split, group="triples") for split in portrait.triples]
    heads += [Head(title, group="in train") for title in ("tails per head", "heads per tail", "heads", "tails")]
    rows = [
        [
            Cell.of_text(row.name),
            Cell.of_text(row.cardinality),
            *(Cell.of_count(getattr(row, split)) for split in portrait.triples),
            Cell.of_number(row.tails_per_head, 2),
            Cell.of_number(row.heads_per_tail, 2),
            Cell.of_count(row.heads),
            Cell.of_count(row.tails),
        ]
        for row in portrait.relation[:_MOST_RELATIONS]
    ]
    left = len(portrait.relation) - len(rows)
    note = f"{left:,} rarer relations are in statistics.json." if left else ""
    return Table("Relations", heads, rows, note=note)
