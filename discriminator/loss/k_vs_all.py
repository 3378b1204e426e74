"""K-vs-all (Dettmers et al., Convolutional 2D knowledge graph embeddings, AAAI 2018; with a softmax:
Ruffinelli et al., You CAN teach an old dog new tricks, ICLR 2020): all train answers of a query are right at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from discriminator.loss.table_loss import TableLoss
from embedding.answers import sum_of_answers
from embedding.model import KGEModel
from embedding.whole_table import log_sum_exp, sum_softplus
from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples

_KINDS = ("softmax", "bce")


class KvsAll(TableLoss):
    """The query of each positive against every entity; its answers in train are right, all others wrong.

    A query comes as often as it has answers on the side that is corrupted, so frequent ones weigh more than in the
    papers, where each comes once an epoch; trainer.subsampling=true evens that out.

    Args:
        known: the train facts.
        loss: "softmax", cross-entropy with the target spread equally over the answers; or "bce", the mean over all
            entities of binary cross-entropy on raw scores.
    """

    def __init__(self, known: KnownTriples, *, loss: str) -> None:
        if loss not in _KINDS:
            raise InputError(f"loss.loss must be {' or '.join(_KINDS)}, got {loss!r}")
        super().__init__()
        self.known = known
        self.loss = loss

    def forward(self, model: KGEModel, batch: Batch, positive: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """See `TableLoss`."""
        answers = self.known.answers(batch)
        right = sum_of_answers(model, batch, answers)
        if self.loss == "softmax":
            return log_sum_exp(model, batch) - right / torch.bincount(answers[0], minlength=len(right))
        return (sum_softplus(model, batch, 0.0) - right) / len(model.entity.row_of_entity)
