"""Relation prediction (Chen et al., Relation prediction as an auxiliary training objective for improving
multi-relational graph representations, AKBC 2021)."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from discriminator.term.term import Term
from embedding.model import KGEModel
from embedding.scoring.candidate_blocks import in_blocks
from embedding.scoring.candidates import Candidates
from graph.batch import Batch
from graph.errors import InputError


class RelationPrediction(Term):
    """weight * -log p(relation | head, tail), where p is the softmax of the scores with every relation.

    With reciprocal relations, a positive whose head is corrupted is scored as (tail, inverse relation, head), and the
    softmax is over the relations of both directions. Computed in float64, so that the number of ranks changes no digit.

    Args:
        weight: of this cross-entropy; the loss has weight 1. Above 0.
    """

    def __init__(self, *, weight: float) -> None:
        if weight <= 0:
            raise InputError(f"terms.relation_prediction.weight must be positive, got {weight}")
        self.weight = weight

    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """See `Term`."""
        first, second = (batch.anchor, batch.target) if model.reciprocal else (batch.head, batch.tail)
        head, tail = model.entity(torch.cat([first, second])).double().chunk(2)
        relation, _ = model.asked(batch.relation, batch.head_rows)
        score = _scores(model, head, tail)
        return self.weight * (score.logsumexp(1) - score.gather(1, relation[:, None])[:, 0])


def _scores(model: KGEModel, head: Float64[Tensor, "B E"], tail: Float64[Tensor, "B E"]) -> Float64[Tensor, "B R_"]:
    """Scores of each (head, tail) with every relation: one matrix product, or block by block where there is none."""
    query = model.scoring.relation_query(head, tail)
    if query is not None:
        return query @ model.scorer.relation.t()
    return in_blocks(
        lambda h, t, r: model.scoring.score(h[:, :, None], r[:, None], t[:, :, None]),
        (head, tail),
        Candidates.of(model.scorer.relation[None]),
        model.scoring.pair_numbers,
    )
