"""The entities that answer a query best by a rule of the caller's, beside its known answers."""

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
"""How much each score is wanted, beside the score of the positive: higher is wanted more, and all are above _KNOWN."""

_KNOWN = -1e300


@torch.no_grad()
def preferred_entities(
    model: KGEModel, batch: Batch, count: int, prefer: Preference, leave_out: KnownTriples | None
) -> Int64[Tensor, "B k"]:
    """For each positive the `count` entities other than its target that `prefer` wants most, best first; count < E.

    Known answers, those of `leave_out`, come only where there are not enough others. Every rank scores its own queries
    against the whole table, in float64, so that no near tie shows how many ranks there are. Collective.
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
    """Entities of some rows whose value is to be lower than that of others."""

    def __init__(self, row: Int64[Tensor, " K"], entity: Int64[Tensor, " K"], value: float) -> None:
        order = entity.argsort()
        self.row, self.entity, self.value = row[order], entity[order], value

    def put(self, block: Int64[Tensor, " n"], value: Float64[Tensor, "B n"]) -> None:
        """Lowers them where they are of this block."""
        first = int(block[0])
        start, stop = torch.searchsorted(self.entity, block.new_tensor([first, first + len(block)])).tolist()
        value[self.row[start:stop], self.entity[start:stop] - first] = self.value
