"""K-vs-all (Dettmers et al., Convolutional 2D knowledge graph embeddings, AAAI 2018; with a softmax:
Ruffinelli et al., You CAN teach an old dog new tricks, ICLR 2020): all train answers of a query have label 1."""

import torch
from jaxtyping import Float
from torch import Tensor

from discriminator.loss.table_loss import TableLoss
from embedding.answers import sum_of_answers
from embedding.model import KGEModel
from embedding.whole_table import log_sum_exp, sum_scores, sum_softplus
from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples

_KINDS = ("softmax", "bce")


class KvsAll(TableLoss):
    """Scores the query of each positive with every entity. The query's train answers have label 1, all others label 0.

    In the papers each query is trained once in an epoch. Here it is trained once for each positive, so queries with
    many answers weigh more; trainer.subsampling=true reduces that.

    Args:
        known: the train facts.
        loss: "softmax": cross-entropy with equal target probabilities for the answers. "bce": the mean over all
            entities of binary cross-entropy on raw scores.
        smoothing: the share of the target that is spread equally over all entities; at least 0 and below 1. Above 0 it
            costs one more pass over the table. Dettmers et al. use 0.1 with "bce".
    """

    def __init__(self, known: KnownTriples, *, loss: str, smoothing: float) -> None:
        if loss not in _KINDS:
            raise InputError(f"loss.loss must be {' or '.join(_KINDS)}, got {loss!r}")
        if not 0 <= smoothing < 1:
            raise InputError(f"loss.smoothing must be at least 0 and below 1, got {smoothing}")
        super().__init__()
        self.known = known
        self.loss = loss
        self.smoothing = smoothing

    def forward(self, model: KGEModel, batch: Batch, positive: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """See `TableLoss`."""
        answers, entities = self.known.answers(batch), len(model.entity.row_of_entity)
        right = sum_of_answers(model, batch, answers)
        if self.loss == "softmax":
            right = right / torch.bincount(answers[0], minlength=len(right))
        if self.smoothing > 0:
            right = (1 - self.smoothing) * right + self.smoothing / entities * sum_scores(model, batch)
        if self.loss == "softmax":
            return log_sum_exp(model, batch) - right
        return (sum_softplus(model, batch, 0.0) - right) / entities
