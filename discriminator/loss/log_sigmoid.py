"""Log-sigmoid with margin (Sun et al., RotatE, ICLR 2019, equation 4), all negatives weighing the same."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.compiled import compiled_loss
from discriminator.loss.loss import Loss, mean_of_unknown
from kernels.library import usable
from kernels.losses import RowLoss


class LogSigmoid(Loss):
    """-log sigmoid(margin + s(positive)) - mean log sigmoid(-margin - s(negative)).

    Args:
        margin: the score -margin is where a triple counts as even; 0 for bilinear scores, positive for distances.
    """

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None
    ) -> Float[Tensor, " B"]:
        """See `Loss`."""
        if usable(negative):  # the same as self-adversarial weights at temperature 0
            return compiled_loss(RowLoss.SELF_ADVERSARIAL, positive, negative, known, float(self.margin), 0.0)
        return softplus(-self.margin - positive) + mean_of_unknown(softplus(self.margin + negative), known)
