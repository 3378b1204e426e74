"""The hardest negatives of some train triples: of the entities not known to be right, those that score highest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.model import KGEModel
from graph.batch import Batch
from graph.distinct_sample import distinct_sample
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownTriples
from reporting.html_table import Cell, Head, Table

_POSITIVES = 12
_EACH = 3
"""Negatives shown of each positive."""
_BLOCK_ENTITIES = 4096


@dataclass(frozen=True)
class HardNegative:
    """An entity in place of the head or the tail of a train triple."""

    query: str
    """The triple, with a question mark at the corrupted side."""
    answer: str
    answer_score: float
    negative: str
    negative_score: float
    is_hidden_fact: bool
    """True but in no split, which only the built-in graph knows."""


@torch.no_grad()
def hardest_negatives(model: KGEModel, graph: KnowledgeGraph, known: KnownTriples) -> list[HardNegative]:
    """The highest-scored negatives of a fixed sample of train triples, half with their head corrupted, half their tail.

    Args:
        known: facts that are no negatives, on the model's device.
    """
    drawn = distinct_sample("positives of a report", len(graph.train), _POSITIVES, 0)
    head, relation, tail = graph.train[drawn].to(model.site.device).unbind(1)
    number = torch.arange(len(head), device=head.device)
    batch = Batch.of_facts(head, relation, tail, heads=len(head) // 2, chunk=number, seed=0, epoch=0)
    best = BestEntities(len(head), _EACH, head.device)
    for first in range(0, graph.num_entities, _BLOCK_ENTITIES):
        entity = torch.arange(first, min(first + _BLOCK_ENTITIES, graph.num_entities), device=head.device)
        score = _scores(model, batch, entity)
        best.add(entity, score.masked_fill(known.contains(batch, entity[None]), -torch.inf))
    answer = model.score_candidates(batch, batch.target[:, None])[:, 0].tolist()
    hidden = KnownTriples(graph.hidden.to(head.device), graph.num_entities, graph.num_relations)
    is_hidden = hidden.contains(batch, best.entity)
    found = []
    for row, (entities, values) in enumerate(zip(best.entity.tolist(), best.value.tolist(), strict=True)):
        for place, (entity, value) in enumerate(zip(entities, values, strict=True)):
            if value > -torch.inf:
                query, right = _in_words(graph, batch, row)
                wrong = str(graph.entity_names[entity])
                found.append(HardNegative(query, right, answer[row], wrong, value, bool(is_hidden[row, place])))
    return found


def _scores(model: KGEModel, batch: Batch, entity: Int64[Tensor, " M"]) -> Float[Tensor, "B M"]:
    return model.score_candidates(batch, entity.expand(len(batch.head), -1)).double()


def _in_words(graph: KnowledgeGraph, batch: Batch, row: int) -> tuple[str, str]:
    """The query of a row of the batch, and its answer in train."""
    head, tail = (graph.entity_names[int(side[row])] for side in (batch.head, batch.tail))
    relation = graph.relation_names[int(batch.relation[row])]
    if row < batch.head_rows:
        return f"(?, {relation}, {tail})", head
    return f"({head}, {relation}, ?)", tail


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
