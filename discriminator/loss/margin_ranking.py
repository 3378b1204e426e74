"""Margin ranking, or hinge (Bordes et al. 2013, equation 1): max(0, margin - s(positive) + s(negative))."""

from jaxtyping import Bool, Float
from torch import Tensor

from discriminator.loss.loss import Loss, mean_of_unknown
from graph.errors import InputError


class MarginRanking(Loss):
    """Mean over the negatives of the hinge.

    Args:
        margin: how far a positive should score above a negative.
    """

    def __init__(self, margin: float) -> None:
        if margin <= 0:
            raise InputError(f"loss.margin must be positive, got {margin}")
        self.margin = margin

    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None
    ) -> Float[Tensor, " B"]:
        """See `Loss`."""
        return mean_of_unknown((self.margin - positive[:, None] + negative).relu(), known)
