"""Sums the scores of the known answers of each query; queries differ in their number of answers."""

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
"""Pairs (query, answer) scored together in a block: queries x answers of the query that has most, padding included."""


def sum_of_answers(model: KGEModel, batch: Batch, answers: Answers) -> Float64[Tensor, " B"]:
    """The sum of the scores of each query's answers, differentiable. Looks up all answers at once. Collective.

    Args:
        answers: pairs (row of the batch, entity), sorted by row.
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
    """Yields blocks (queries [q], numbers of their answers [q, A], True where not padding), most answers first.

    Queries without answers are left out.
    """
    order = count.argsort(descending=True, stable=True)
    order = order[: int(count.count_nonzero())]
    while len(order):
        width = int(count[order[0]])
        rows, order = order.split([size := min(max(_BLOCK_PAIRS // width, 1), len(order)), len(order) - size])
        column = torch.arange(width, device=count.device).expand(size, -1)
        real = column < count[rows, None]
        yield rows, column.where(real, 0), real
