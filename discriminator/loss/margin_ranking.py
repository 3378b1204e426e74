"""Margin ranking, or hinge (Bordes et al. 2013, equation 1): max(0, margin - s(positive) + s(negative))."""

from jaxtyping import Float
from torch import Tensor

from discriminator.loss.loss import Loss, Scores, mean_of_unknown
from graph.errors import InputError


class MarginRanking(Loss):
    """The mean over a positive's negatives of max(0, margin - s(positive) + s(negative)).

    Args:
        margin: how far a positive should score above a negative, in units of the score; above 0.
    """

    def __init__(self, margin: float) -> None:
        if margin <= 0:
            raise InputError(f"loss.margin must be positive, got {margin}")
        super().__init__()
        self.margin = margin

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        positive, negative, known = scores.positive, scores.negative, scores.known
        return mean_of_unknown((self.margin - positive[:, None] + negative).relu(), known)
