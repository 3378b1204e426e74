"""The interface of terms that are added to the loss."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from graph.batch import Batch


class Term(ABC):
    """A regulariser or an auxiliary loss. It is added to the loss of each positive."""

    @abstractmethod
    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """The number to add to the loss of each positive, differentiable with respect to the model. Collective."""
