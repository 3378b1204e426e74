"""What a loss over all entities is: it needs no negatives, and no rank ever holds all the scores."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from embedding.model import KGEModel
from graph.batch import Batch


class TableLoss(nn.Module, ABC):
    """Compares each positive with every entity of the table; the sampler's negatives are scored, and not learned from.

    Take the cheapest sampler with it: generator=uniform generator.num_negatives=1.
    """

    @abstractmethod
    def forward(self, model: KGEModel, batch: Batch, positive: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The loss of each positive, whose scores are `positive`. Collective."""
