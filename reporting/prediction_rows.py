"""A model's best answers to some held-out triples, by name, as rows for trackers."""

from typing import Any

from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from graph.distinct_sample import distinct_sample
from graph.knowledge_graph import KnowledgeGraph

ANSWERS = 10
"""Answers shown to each question."""


def sampled_split(graph: KnowledgeGraph, count: int) -> tuple[str, Int64[Tensor, "T 3"]]:
    """A fixed sample of test, or of valid if there are no test triples, and the name of that split.

    Args:
        count: the number of triples; all of them if there are fewer.
    """
    split = "test" if len(graph.test) else "valid"
    triples: Int64[Tensor, "T 3"] = getattr(graph, split)
    return split, triples[distinct_sample("triples of predictions", len(triples), count, 0)]


def prediction_rows(
    graph: KnowledgeGraph,
    side: str,
    triples: Int64[Tensor, "T 3"],
    rank: Float64[Tensor, " T"],
    answer: Int64[Tensor, "T k"],
    score: Float64[Tensor, "T k"],
    known: Bool[Tensor, "T k"],
) -> list[dict[str, Any]]:
    """A row for each answer to each triple, best first.

    Args:
        side: what was asked for, "head" or "tail".
        rank: of the true answer.
        answer: ids; those with a score of minus infinity are left out.
        known: whether an answer makes a known fact. The true answer does.
    """
    rows, entities = [], graph.entity_names
    columns = zip(triples.tolist(), rank.tolist(), answer.tolist(), score.tolist(), known.tolist(), strict=True)
    for (head, relation, tail), true_rank, *answers in columns:
        asked = {
            "head": str(entities[head]),
            "relation": str(graph.relation_names[relation]),
            "tail": str(entities[tail]),
            "asked": side,
            "true_rank": true_rank,
        }
        true = head if side == "head" else tail
        rows += [
            {
                **asked,
                "place": place,
                "answer": str(entities[entity]),
                "score": value,
                "is_true_answer": entity == true,
                "known_fact": is_known,
            }
            for place, (entity, value, is_known) in enumerate(zip(*answers, strict=True), 1)
            if value > -float("inf")
        ]
    return rows
