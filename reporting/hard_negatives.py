"""The hardest negatives of some train triples, by name: of entities not known to be right, those that score highest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from graph.distinct_sample import distinct_sample
from graph.knowledge_graph import KnowledgeGraph
from reporting.html_table import Cell, Head, Table

EACH = 3
"""Negatives shown of each triple."""
_TRIPLES = 6
"""Triples whose head is replaced, and as many whose tail is."""


@dataclass(frozen=True)
class HardNegative:
    """An entity in place of the head or the tail of a train triple, the positive."""

    head: str
    relation: str
    tail: str
    replaced: str
    """The side that the negative replaces, "head" or "tail"."""
    positive_score: float
    negative: str
    negative_score: float
    fact_of: str | None
    """The split that has the triple with the negative; "hidden" if it is true but in no split, which only the built-in
    graph knows; None if it is not known to be true."""

    @property
    def query(self) -> str:
        """The positive, with a question mark at the replaced side."""
        sides = ("?", self.tail) if self.replaced == "head" else (self.head, "?")
        return f"({sides[0]}, {self.relation}, {sides[1]})"

    @property
    def answer(self) -> str:
        """The entity of the positive at the replaced side."""
        return self.head if self.replaced == "head" else self.tail

    @property
    def is_hidden_fact(self) -> bool:
        """True but in no split."""
        return self.fact_of == "hidden"


def sampled_triples(graph: KnowledgeGraph) -> dict[str, Int64[Tensor, "T 3"]]:
    """A fixed sample of train triples, by the side that is replaced in them: "head" or "tail"."""
    drawn = graph.train[distinct_sample("triples of a report", len(graph.train), 2 * _TRIPLES, 0)].long()
    middle = len(drawn) // 2
    return {"head": drawn[:middle], "tail": drawn[middle:]}


def in_words(
    graph: KnowledgeGraph,
    side: str,
    triples: Int64[Tensor, "T 3"],
    positive_score: Float64[Tensor, " T"],
    negative: Int64[Tensor, "T k"],
    negative_score: Float64[Tensor, "T k"],
    facts: Mapping[str, Bool[Tensor, "T k"]],
) -> list[HardNegative]:
    """The negatives of triples whose `side` was replaced; those with a score of minus infinity are left out.

    Args:
        facts: for each name that `HardNegative.fact_of` may have, which triples with a negative are such facts. The
            first name counts for one that is in two splits.
    """
    found, entities, relations = [], graph.entity_names, graph.relation_names
    for row, (head, relation, tail) in enumerate(triples.tolist()):
        positive = (str(entities[head]), str(relations[relation]), str(entities[tail]))
        for place, (entity, score) in enumerate(zip(negative[row].tolist(), negative_score[row].tolist(), strict=True)):
            if score > -float("inf"):
                fact_of = next((name for name, is_fact in facts.items() if is_fact[row, place]), None)
                scored = (float(positive_score[row]), str(entities[entity]), score)
                found.append(HardNegative(*positive, side, *scored, fact_of))
    return found


def as_rows(negatives: Sequence[HardNegative]) -> list[dict[str, Any]]:
    """The negatives as rows for trackers."""
    return [
        {
            "head": each.head,
            "relation": each.relation,
            "tail": each.tail,
            "replaced": each.replaced,
            "negative": each.negative,
            "negative_score": each.negative_score,
            "positive_score": each.positive_score,
            "known_fact": each.fact_of or "no",
        }
        for each in negatives
    ]


def as_table(negatives: Sequence[HardNegative]) -> Table:
    """The negatives as a table of a page: a row for each triple, its negatives beside each other, hardest first."""
    of_triple: dict[tuple[str, str, float], list[HardNegative]] = {}
    for each in negatives:
        of_triple.setdefault((each.query, each.answer, each.positive_score), []).append(each)
    most = max(map(len, of_triple.values()), default=0)
    heads = [
        Head("train triple", is_text=True),
        Head("its answer", is_text=True),
        Head("score"),
        *(Head(f"negative {number}", "With its score.", is_text=True) for number in range(1, most + 1)),
    ]
    rows = [
        [
            Cell.of_text(query),
            Cell.of_text(answer),
            Cell.of_number(score),
            *map(_negative, of_one),
            *([Cell("")] * (most - len(of_one))),
        ]
        for (query, answer, score), of_one in of_triple.items()
    ]
    return Table("Hardest negatives", heads, rows)


def _negative(negative: HardNegative) -> Cell:
    """A negative: its name, and below it its score and what is remarkable."""
    above = ", above the answer" if negative.negative_score > negative.positive_score else ""
    hidden = ", a true fact in no split" if negative.is_hidden_fact else ""
    return Cell(negative.negative, negative.negative, f"score {negative.negative_score:.3f}{above}{hidden}")
