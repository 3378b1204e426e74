"""Self-adversarial weighting (Sun et al., RotatE, ICLR 2019, equations 5 and 6)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores
from graph.errors import InputError
from kernels.losses import KernelLoss, RowLoss


class SelfAdversarial(Loss):
    """Log-sigmoid with margin. Negatives are weighted by the softmax of temperature * score, without gradient.

    Args:
        margin: gamma of the paper: a triple of score -margin has probability 1/2.
        temperature: alpha of the paper: multiplies the scores before the softmax; at least 0; 0 gives equal weights.
    """

    def __init__(self, margin: float, temperature: float) -> None:
        if temperature < 0:
            raise InputError(f"loss.temperature must be at least 0, got {temperature}")
        super().__init__()
        self.margin = margin
        self.temperature = temperature

    @property
    def kernel(self) -> KernelLoss:
        """The self-adversarial kernel with this margin and temperature."""
        return KernelLoss(RowLoss.SELF_ADVERSARIAL, self.margin, self.temperature)

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        return loss_of_scores(self.kernel, scores.positive, scores.negative, scores.known)
