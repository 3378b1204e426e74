"""Scores of lists of triples, each computed by one of the ranks."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from graph.batch import Batch
from graph.errors import InputError
from trainer.runtime import Runtime

_PAIRS = 1 << 16
"""Triples that a rank scores at a time, so that their rows fit in some tens of MB."""


@torch.no_grad()
def score_lists(
    model: KGEModel, runtime: Runtime, triples: Int64[Tensor, "Q 3"], entity: Int64[Tensor, "Q M"], side: str
) -> Float64[Tensor, "Q M"]:
    """The scores of triples whose head or tail is replaced by each of M entities. Collective.

    All ranks give the same triples and get all scores. Each query is scored by one rank, whose scores of it do not
    depend on the number of ranks.

    Args:
        side: what is replaced, "head" or "tail".

    Raises:
        InputError: a score is nan or infinite.
    """
    scores = torch.zeros(entity.shape, dtype=torch.float64, device=runtime.device)
    size = max(_PAIRS // max(entity.shape[1], 1), 1) * runtime.world_size
    for start in range(0, len(triples), size):
        mine = torch.arange(start, min(start + size, len(triples)))[runtime.rank :: runtime.world_size]
        head, relation, tail = triples[mine].to(runtime.device).unbind(1)
        heads = len(mine) if side == "head" else 0
        batch = Batch.of_facts(head, relation, tail, heads=heads, chunk=mine.to(runtime.device), seed=0, epoch=0)
        scores[mine] = model.score_candidates(batch, entity[mine].to(runtime.device)).double()
    scores = runtime.add(scores)
    if not scores.isfinite().all():
        raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
    return scores


def score_triples(model: KGEModel, runtime: Runtime, triples: Int64[Tensor, "T 3"]) -> Float64[Tensor, " T"]:
    """The score of each triple. Collective.

    With reciprocal relations it is the mean of its two scores, of the tail for (h, r) and of the head for (r, t).
    """
    scores = score_lists(model, runtime, triples, triples[:, 2:], "tail")[:, 0]
    if model.reciprocal:
        scores = (scores + score_lists(model, runtime, triples, triples[:, :1], "head")[:, 0]) / 2
    return scores
