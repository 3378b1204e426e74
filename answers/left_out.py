"""What is said of answers that are known facts and were left out."""

import torch
from jaxtyping import Int64
from torch import Tensor

from answers.completions import Completions
from answers.queries import ASKED
from graph.knowledge_graph import KnowledgeGraph
from graph.statistics import RelationStatistics

_ONE = 1.1
"""Mean number of answers to a query of train up to which a relation has one answer."""


def notes_of(
    completions: Completions, query: Int64[Tensor, " 3"], graph: KnowledgeGraph, statistics: RelationStatistics
) -> list[str]:
    """Lines about the known answers of a query, which predictions leave out; none if there are none.

    Args:
        query: head, relation and tail, one of them `ASKED`.
        statistics: of train.
    """
    head, relation, tail = (each[None] for each in query)
    known, place = completions.known, query.tolist().index(ASKED)
    if place == 1:
        every = torch.arange(graph.num_relations)
        count = int(completions.are_known(head.expand(len(every)), every, tail.expand(len(every))).sum())
    else:
        index, anchor = (known.heads, tail) if place == 0 else (known.tails, head)
        device = completions.model.site.device
        count = len(index.answers(anchor.to(device), relation.to(device))[1].unique())
    if not count:
        return []
    notes = [f"{count:,} known {'fact was' if count == 1 else 'facts were'} left out; known=show shows them"]
    per_query = {0: statistics.heads_per_tail, 2: statistics.tails_per_head}.get(place)
    if per_query is not None and 0 < float(per_query[int(relation)]) <= _ONE:
        (asked, given), name = (("head", "tail"), ("tail", "head"))[place == 2], graph.relation_names[int(relation)]
        notes.append(f"{name} has one {asked} for each {given} in train, and it is known here: others are unlikely")
    return notes
