"""Self-adversarial weighting (Sun et al., RotatE, ICLR 2019, equations 5 and 6)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.compiled import compiled_loss
from discriminator.loss.loss import Loss, Scores
from graph.errors import InputError
from kernels.library import usable
from kernels.losses import OnePassLoss, RowLoss


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
    def one_pass(self) -> OnePassLoss:
        """See `Loss.one_pass`."""
        return OnePassLoss(RowLoss.SELF_ADVERSARIAL, self.margin, self.temperature)

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        positive, negative, known = scores.positive, scores.negative, scores.known
        if usable(negative):
            return compiled_loss(self.one_pass, positive, negative, known)
        logits = negative.detach() * self.temperature
        if known is None:
            weight = logits.softmax(1)
        else:
            # A row that is masked whole has nan for weights, and a masked score may be infinite: both become 0.
            weight = logits.masked_fill(known, -torch.inf).softmax(1).masked_fill(known, 0.0)
            negative = negative.masked_fill(known, 0.0)
        return softplus(-self.margin - positive) + (weight * softplus(self.margin + negative)).sum(1)
