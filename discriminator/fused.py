"""Decides whether one kernel computes a step's scores, loss and gradients together. Nothing else decides this."""

from discriminator.loss.loss import Loss
from discriminator.loss.table_loss import TableLoss
from embedding.model import KGEModel
from embedding.scoring.candidates import share_pools
from graph.batch import Batch, Negatives
from kernels.contrast import MOST_ON_GPU, can_contrast, has_contrast
from kernels.gpu.available import usable_on_gpu
from kernels.library import usable


def why_not_fused(loss: Loss | TableLoss, model: KGEModel, batch: Batch, negatives: Negatives) -> str | None:
    """The reason why the fused pass can't be used in a step, as the end of a sentence "..., because"; None if it can.

    The answer depends only on the options of a run, except on a rank that has no positives in a step.
    """
    return _why_not_options(loss, model) or _why_not_step(batch, negatives) or _why_not_machine(model, negatives)


def is_ruled_out(loss: Loss | TableLoss, model: KGEModel, negatives: Negatives) -> bool:
    """Whether the loss, the model or the sampler has no fused pass, whatever other options and machine there are."""
    return _why_not_options(loss, model) is not None or negatives.reward_pool


def _why_not_options(loss: Loss | TableLoss, model: KGEModel) -> str | None:
    if isinstance(loss, TableLoss):
        return f"the loss {type(loss).__name__} compares positives with all entities"
    if loss.kernel is None:
        return f"the loss {type(loss).__name__} has no kernel with these options"
    comparison = model.scoring.comparison
    if comparison is None or not has_contrast(comparison, model.entity.like, model.scoring.precision):
        return f"{type(model.scoring).__name__} has no fused comparison with these options"
    return None


def _why_not_step(batch: Batch, negatives: Negatives) -> str | None:
    if negatives.reward_pool:
        return "the generator needs a reward for each candidate of its pool, so the whole pool must be scored"
    if not negatives.entity.numel():
        return "this rank has no positives in this step"
    if not share_pools(len(batch.head), len(negatives.entity)):
        return "fewer than 4 positives share their negatives"
    return None


def _why_not_machine(model: KGEModel, negatives: Negatives) -> str | None:
    rows, comparison = model.entity.like, model.scoring.comparison
    if not usable(rows) and not usable_on_gpu(rows):
        return "kernels need a C++ compiler, or a GPU and Triton, and float32 or float64 rows"
    if usable_on_gpu(rows) and negatives.entity.shape[1] > MOST_ON_GPU:
        return f"on a GPU it takes at most {MOST_ON_GPU} negatives of a positive, got {negatives.entity.shape[1]}"
    if comparison is None or not can_contrast(comparison, rows):
        return "this build of torch has no MKL matrix product that a kernel can call"
    return None
