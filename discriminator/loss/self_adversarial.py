"""Self-adversarial weighting (Sun et al., RotatE, ICLR 2019, equations 5 and 6)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores
from graph.errors import InputError
from kernels.losses import KernelLoss, RowLoss


class SelfAdversarial(Loss):
    """Log-sigmoid with margin, each negative weighed by the softmax of the model's own scores, without gradient.

    Args:
        margin: the score -margin is where a triple counts as even.
        temperature: alpha of the paper, multiplies the scores before the softmax; 0 weighs all the same.
    """

    def __init__(self, margin: float, temperature: float) -> None:
        if temperature < 0:
            raise InputError(f"loss.temperature must be at least 0, got {temperature}")
        super().__init__()
        self.margin = margin
        self.temperature = temperature

    @property
    def kernel(self) -> KernelLoss:
        """This loss with its margin and temperature."""
        return KernelLoss(RowLoss.SELF_ADVERSARIAL, self.margin, self.temperature)

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        return loss_of_scores(self.kernel, scores.positive, scores.negative, scores.known)
