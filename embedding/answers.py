"""Scores of the answers of queries, which have some few and others many."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.query_sides import query_sides
from embedding.scoring.candidates import Candidates
from embedding.table_queries import Answers
from graph.batch import Batch

_BLOCK_PAIRS = 1 << 18
"""Pairs of a query and an answer, filled up to a rectangle, that are scored at a time."""


def sum_of_answers(model: KGEModel, batch: Batch, answers: Answers) -> Float64[Tensor, " B"]:
    """The sum of the scores of each query's answers, differentiable; one look-up of all answers. Collective.

    Args:
        answers: ascending by row of the batch.
    """
    anchor, relation, heads = model.query_rows(batch)
    sides = query_sides(anchor, relation, heads)
    query, entity = answers
    lookup, (answer,) = model.entity.look_up(entity)
    count = torch.bincount(query, minlength=len(anchor))
    first = count.cumsum(0) - count
    total = torch.zeros(len(anchor), dtype=torch.float64, device=anchor.device)
    for side in sides:
        for place, column, real in _blocks(count[side.rows]):
            rows = side.first + place
            score = model.scoring.scorer(side.anchor[place], side.relation[place], of_heads=side.of_heads)
            value = score(Candidates(lookup, answer[first[rows, None] + column]))
            total = total.index_add(0, rows, torch.where(real, value, 0.0).sum(1, dtype=torch.float64))
    return total


def _blocks(
    count: Int64[Tensor, " Q"],
) -> Iterator[tuple[Int64[Tensor, " q"], Int64[Tensor, "q A"], Bool[Tensor, "q A"]]]:
    """(queries, numbers of their answers, which of these are not filling), those with the most answers first."""
    order = count.argsort(descending=True, stable=True)
    order = order[: int(count.count_nonzero())]
    while len(order):
        width = int(count[order[0]])
        rows, order = order.split([size := min(max(_BLOCK_PAIRS // width, 1), len(order)), len(order) - size])
        column = torch.arange(width, device=count.device).expand(size, -1)
        real = column < count[rows, None]
        yield rows, column.where(real, 0), real
