"""The interface of losses over all entities. They need no negatives, and no rank ever holds all scores at once."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from embedding.model import KGEModel
from graph.batch import Batch


class TableLoss(nn.Module, ABC):
    """Compares each positive with every entity. The sampler's negatives are scored, but do not influence the loss.

    So use the cheapest sampler: generator=uniform generator.num_negatives=1.
    """

    @abstractmethod
    def forward(self, model: KGEModel, batch: Batch, positive: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The loss of each positive, differentiable with respect to the model. Collective.

        Args:
            model: computes the scores of all entities.
            batch: this rank's B positives.
            positive: the scores of the positives, with gradient.
        """
