"""What a loss is."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Loss(ABC):
    """Compares the score of each positive with those of its negatives.

    It gives one value a positive; who calls it takes the mean over the global batch, so that a loss need not know of
    weights or ranks.
    """

    @abstractmethod
    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None
    ) -> Float[Tensor, " B"]:
        """The loss of each positive, at least 0.

        Args:
            known: True where a negative is a known fact, to be left out; None if nothing is masked.
        """


def mean_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The mean over each row's negatives that are not masked; 0 where all are."""
    if known is None:
        return value.mean(1)
    kept = ~known
    # `where`, not a product: a masked value may be infinite.
    return torch.where(kept, value, 0.0).sum(1) / kept.sum(1).clamp(min=1)
