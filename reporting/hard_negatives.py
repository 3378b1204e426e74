"""The hardest negatives of some train triples, by name: of entities not known to be right, those that score highest."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """An entity in place of the head or the tail of a train triple."""

    query: str
    """The triple, with a question mark at the replaced side."""
    answer: str
    answer_score: float
    negative: str
    negative_score: float
    is_hidden_fact: bool
    """True but in no split, which only the built-in graph knows."""


def sampled_triples(graph: KnowledgeGraph) -> dict[str, Int64[Tensor, "T 3"]]:
    """A fixed sample of train triples, by the side that is replaced in them: "head" or "tail"."""
    drawn = graph.train[distinct_sample("triples of a report", len(graph.train), 2 * _TRIPLES, 0)].long()
    middle = len(drawn) // 2
    return {"head": drawn[:middle], "tail": drawn[middle:]}


def in_words(
    graph: KnowledgeGraph,
    side: str,
    triples: Int64[Tensor, "T 3"],
    answer_score: Float64[Tensor, " T"],
    negative: Int64[Tensor, "T k"],
    negative_score: Float64[Tensor, "T k"],
    is_hidden: Bool[Tensor, "T k"],
) -> list[HardNegative]:
    """The negatives of triples whose `side` was replaced; those with a score of minus infinity are left out."""
    found, name_of = [], {entity: str(graph.entity_names[entity]) for entity in _entities(triples, negative)}
    for row, (head, relation, tail) in enumerate(triples.tolist()):
        first, name, last = name_of[head], str(graph.relation_names[relation]), name_of[tail]
        query, answer = (f"(?, {name}, {last})", first) if side == "head" else (f"({first}, {name}, ?)", last)
        columns = zip(negative[row].tolist(), negative_score[row].tolist(), is_hidden[row].tolist(), strict=True)
        found += [
            HardNegative(query, answer, float(answer_score[row]), name_of[entity], score, hidden)
            for entity, score, hidden in columns
            if score > -float("inf")
        ]
    return found


def _entities(triples: Int64[Tensor, "T 3"], negative: Int64[Tensor, "T k"]) -> set[int]:
    return {*triples[:, [0, 2]].flatten().tolist(), *negative.flatten().tolist()}


def as_table(negatives: Sequence[HardNegative]) -> Table:
    """The negatives as a table."""
    has_hidden = any(each.is_hidden_fact for each in negatives)
    heads = [
        Head("train triple", is_text=True),
        Head("its answer", is_text=True),
        Head("score"),
        Head("negative", is_text=True),
        Head("score"),
        Head("above the answer", "Whether the model takes the negative for more plausible than the train triple."),
        *([Head("hidden fact", "True, but in no split.")] if has_hidden else []),
    ]
    rows = [
        [
            Cell.of_text(each.query),
            Cell.of_text(each.answer),
            Cell.of_number(each.answer_score),
            Cell.of_text(each.negative),
            Cell.of_number(each.negative_score),
            _yes(each.negative_score > each.answer_score),
            *([_yes(each.is_hidden_fact)] if has_hidden else []),
        ]
        for each in negatives
    ]
    return Table("Hardest negatives", heads, rows)


def _yes(holds: bool) -> Cell:
    return Cell("yes" if holds else "no", int(holds))
