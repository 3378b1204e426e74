"""Sums the scores of the known answers of each query; queries differ in their number of answers."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.query_sides import QuerySide, query_sides
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from embedding.table_queries import Answers
from graph.batch import Batch

_BLOCK_PAIRS = 1 << 18
"""Pairs (query, answer) scored together in a block: queries x answers of the query that has most, padding included."""


def sum_of_answers(model: KGEModel, batch: Batch, answers: Answers) -> Float64[Tensor, " B"]:
    """The sum of the scores of each query's answers, differentiable. Looks up all answers at once. Collective.

    Args:
        answers: pairs (row of the batch, entity), sorted by row.
    """
    sides = _sides(model, batch)
    query, entity = answers
    lookup, (answer,) = model.entity.look_up(entity)
    count = torch.bincount(query, minlength=len(batch.head))
    first = count.cumsum(0) - count
    total = torch.zeros(len(batch.head), dtype=torch.float64, device=query.device)
    for rows_of_side, scorer in sides:
        for place, column, real in _blocks(count[rows_of_side]):
            rows = rows_of_side.start + place
            score = scorer(place)
            value = score(Candidates(lookup, answer[first[rows, None] + column]))
            total = total.index_add(0, rows, torch.where(real, value, 0.0).sum(1, dtype=torch.float64))
    return total


_Scorer = Callable[[Candidates], Tensor]


def _sides(model: KGEModel, batch: Batch) -> list[tuple[slice, Callable[[Tensor], _Scorer]]]:
    """Rows of the batch, and a function from places among these rows to the scorer of their queries."""
    query, scoring = model.made_queries(batch), model.scoring
    if query is not None:
        assert isinstance(scoring, QueryScoring)
        return [(slice(0, len(query)), lambda place: scoring.comparer(query[place]))]

    def scorer(side: QuerySide, place: Tensor) -> _Scorer:
        return scoring.scorer(side.anchor[place], side.relation[place], of_heads=side.of_heads)

    return [(side.rows, partial(scorer, side)) for side in query_sides(*model.query_rows(batch))]


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
