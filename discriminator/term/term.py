"""What a term is."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from graph.batch import Batch


class Term(ABC):
    """Adds to the loss of each positive."""

    @abstractmethod
    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """What is added for each positive, differentiable. Collective."""
