"""The entities that answer a query best by a rule of the caller's, beside its known answers."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.entity_blocks import entity_blocks
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from graph.batch import Batch
from graph.known import KnownTriples

Preference = Callable[[Float64[Tensor, "B n"], Float64[Tensor, "B 1"]], Float64[Tensor, "B n"]]
"""How much each score is wanted, beside the score of the positive: higher is wanted more, and all are above _KNOWN."""

_KNOWN = -1e300


@torch.no_grad()
def preferred_entities(
    model: KGEModel, batch: Batch, count: int, prefer: Preference, leave_out: KnownTriples | None
) -> Int64[Tensor, "B k"]:
    """For each positive the `count` entities other than its target that `prefer` wants most, best first; count < E.

    Unlike `whole_table.best_entities` it may ask for more than the highest scores, and knows the known answers: those
    of `leave_out` come only where there are not enough others. Every rank scores its own queries against the whole
    table, in float64, so that no near tie shows how many ranks there are. Collective.
    """
    anchor, relation, heads = model.query_rows(batch)
    target = model.entity(batch.target)
    scores = _scorer(model, anchor.double(), relation.double(), heads)
    of_positive = scores(target.double()[:, None])
    answers = None if leave_out is None else _by_entity(*leave_out.answers(batch))
    best = of_positive.new_empty((len(target), 0))
    found = batch.target.new_empty((len(target), 0))
    for entity, rows in entity_blocks(model):
        value = prefer(scores(rows.double()[None]), of_positive)
        if answers is not None:
            row, answer = answers
            bounds = answer.new_tensor([int(entity[0]), int(entity[-1]) + 1])
            start, stop = torch.searchsorted(answer, bounds).tolist()
            value[row[start:stop], answer[start:stop] - entity[0]] = _KNOWN
        value = value.masked_fill(batch.target[:, None] == entity, -torch.inf)
        best, place = torch.cat([best, value], dim=1).topk(min(count, best.shape[1] + len(entity)), dim=1)
        found = torch.cat([found, entity.expand(value.shape)], dim=1).gather(1, place)
    return found


def _scorer(
    model: KGEModel, anchor: Float64[Tensor, "B E"], relation: Float64[Tensor, "B R"], heads: int
) -> Callable[[Float[Tensor, "C n E"]], Float64[Tensor, "B n"]]:
    """Scores queries, of which `heads` ask for heads, with one block of rows that they share or with their own."""
    sizes = [heads, len(anchor) - heads]
    sides = [
        model.scoring.scorer(a, r, of_heads=of_heads)
        for a, r, of_heads in zip(anchor.split(sizes), relation.split(sizes), (True, False), strict=True)
    ]

    def scores(rows: Float[Tensor, "C n E"]) -> Float64[Tensor, "B n"]:
        own = rows.split(sizes) if len(rows) == len(anchor) else (rows, rows)
        return torch.cat([score(Candidates.of(part)) for score, part in zip(sides, own, strict=True)])

    return scores


def _by_entity(row: Int64[Tensor, " K"], entity: Int64[Tensor, " K"]) -> tuple[Tensor, Tensor]:
    order = entity.argsort()
    return row[order], entity[order]
