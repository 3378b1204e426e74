"""Finds, for each query, the entities that a rule of the caller prefers, without known answers."""

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.entity_blocks import entity_blocks
from embedding.model import KGEModel
from embedding.query_sides import block_scorer
from graph.batch import Batch
from graph.known import KnownTriples

Preference = Callable[[Float64[Tensor, "B n"], Float64[Tensor, "B 1"]], Float64[Tensor, "B n"]]
"""Maps scores [B, n] and scores of positives [B, 1] to values above _KNOWN. Entities of higher value are preferred."""

_KNOWN = -1e300


@torch.no_grad()
def preferred_entities(
    model: KGEModel, batch: Batch, count: int, prefer: Preference, leave_out: KnownTriples | None
) -> Int64[Tensor, "B k"]:
    """The k = `count` entities of highest `prefer` for each positive, best first, never the target.

    Every rank scores its own queries with the whole table. Scores are float64, so that the number of ranks does not
    change the order of nearly equal scores. Collective.

    Args:
        count: entities for each positive; below the number of entities.
        prefer: gives the value of each entity from its score and the positive's.
        leave_out: known answers, which are taken only if there are too few other entities; None: none are left out.
    """
    anchor, relation, heads = model.query_rows(batch)
    target = model.entity(batch.target)
    scores = block_scorer(model, anchor.double(), relation.double(), heads)
    of_positive = scores(target.double()[:, None])
    own = torch.arange(len(target), device=batch.target.device)
    last = [_Last(own, batch.target, -torch.inf)]
    if leave_out is not None:
        last.insert(0, _Last(*leave_out.answers(batch), _KNOWN))
    best = BestEntities(len(target), count, batch.target.device)
    for entity, rows in entity_blocks(model):
        value = prefer(scores(rows.double()[None]), of_positive)
        for each in last:
            each.put(entity, value)
        best.add(entity, value)
    return best.entity


class _Last:
    """Pairs (row of the batch, entity) that get one low value, so that other entities are preferred."""

    def __init__(self, row: Int64[Tensor, " K"], entity: Int64[Tensor, " K"], value: float) -> None:
        order = entity.argsort()
        self.row, self.entity, self.value = row[order], entity[order], value

    def put(self, block: Int64[Tensor, " n"], value: Float64[Tensor, "B n"]) -> None:
        """Sets the value of those pairs whose entity is in this block, in place."""
        first = int(block[0])
        start, stop = torch.searchsorted(self.entity, block.new_tensor([first, first + len(block)])).tolist()
        value[self.row[start:stop], self.entity[start:stop] - first] = self.value
