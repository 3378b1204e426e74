"""Log-sigmoid with margin (Sun et al., RotatE, ICLR 2019, equation 4), all negatives weighing the same."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.compiled import compiled_loss
from discriminator.loss.loss import Loss, Scores, mean_of_unknown
from kernels.library import usable
from kernels.losses import OnePassLoss, RowLoss


class LogSigmoid(Loss):
    """-log sigmoid(margin + s(positive)) - mean log sigmoid(-margin - s(negative)).

    Args:
        margin: the score -margin is where a triple counts as even; 0 for bilinear scores, positive for distances.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    @property
    def one_pass(self) -> OnePassLoss:
        """See `Loss.one_pass`."""
        return OnePassLoss(RowLoss.SELF_ADVERSARIAL, self.margin, 0.0)

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        positive, negative, known = scores.positive, scores.negative, scores.known
        if usable(negative):  # the same as self-adversarial weights at temperature 0
            return compiled_loss(RowLoss.SELF_ADVERSARIAL, positive, negative, known, float(self.margin), 0.0)
        return softplus(-self.margin - positive) + mean_of_unknown(softplus(self.margin + negative), known)
