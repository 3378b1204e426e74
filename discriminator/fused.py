"""Whether a step's scores and loss are made together by the fused kernel, or one after the other by torch."""

from discriminator.loss.loss import Loss
from discriminator.loss.table_loss import TableLoss
from embedding.model import KGEModel
from embedding.scoring.candidates import LEAST_SHARED
from graph.batch import Batch, Negatives
from kernels.contrast import why_no_contrast


def why_not_fused(model: KGEModel, loss: Loss | TableLoss, batch: Batch, negatives: Negatives) -> str | None:
    """Why the fused path (`embedding/scoring/fused.py`) can't be taken for a step; None if it can.

    All that it depends on is here: the loss, the sampler, the scoring function, how many positives share a pool of
    negatives, and what this machine can run.
    """
    if isinstance(loss, TableLoss):
        return "the loss compares with all entities, not with negatives"
    if loss.kernel is None:
        return f"the loss {type(loss).__name__} has no kernel"
    if negatives.reward_pool:
        return "the sampler asks for the score of every candidate of its pool"
    if model.scoring.comparison is None:
        return f"{type(model.scoring).__name__}, with its options, is not compared by plain inner products or L2"
    if not len(batch.head) or len(batch.head) < LEAST_SHARED * len(negatives.entity):
        return f"fewer than {LEAST_SHARED} positives share a pool of negatives (trainer.chunk_size)"
    return why_no_contrast(model.scoring.comparison, model.entity.weight)
