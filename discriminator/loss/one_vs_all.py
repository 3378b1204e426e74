"""1-vs-all (Lacroix et al., Canonical tensor decomposition for knowledge base completion, ICML 2018)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.loss.table_loss import TableLoss
from embedding.model import KGEModel
from embedding.whole_table import log_sum_exp
from graph.batch import Batch


class OneVsAll(TableLoss):
    """Cross-entropy of the positive in the softmax over all entities. Other known answers count as wrong answers."""

    def forward(self, model: KGEModel, batch: Batch, positive: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """See `TableLoss`."""
        return log_sum_exp(model, batch) - positive
