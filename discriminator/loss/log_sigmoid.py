"""Log-sigmoid with margin (Sun et al., RotatE, ICLR 2019, equation 4): all negatives have the same weight."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores, sum_of_unknown
from graph.errors import InputError
from kernels.losses import KernelLoss, RowLoss

_REDUCTIONS = ("mean", "sum")


class LogSigmoid(Loss):
    """-log sigmoid(margin + s(positive)) - mean (or sum) of log sigmoid(-margin - s(negative)).

    With margin 0 it is binary cross-entropy on raw scores with labels 1 and 0 (conf/loss/bce.yaml).

    With reduction=mean, all negatives together weigh as much as the positive. With reduction=sum, the N negatives weigh
    N times as much: unbounded scores then end up lower by log N, in the same order. Only the mean has a kernel.

    Args:
        margin: a triple of score -margin has probability 1/2. Use 0 for bilinear scores, and more for distances.
        reduction: "mean" or "sum" over the negatives of a positive.
    """

    def __init__(self, *, margin: float, reduction: str) -> None:
        if reduction not in _REDUCTIONS:
            raise InputError(f"loss.reduction must be {' or '.join(_REDUCTIONS)}, got {reduction!r}")
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    @property
    def kernel(self) -> KernelLoss | None:
        """For the mean, the self-adversarial loss at temperature 0, whose weights are equal. None for the sum."""
        return KernelLoss(RowLoss.SELF_ADVERSARIAL, self.margin, 0.0) if self.reduction == "mean" else None

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        positive, negative, known = scores.positive, scores.negative, scores.known
        if self.kernel is not None:
            return loss_of_scores(self.kernel, positive, negative, known)
        return softplus(-self.margin - positive) + sum_of_unknown(softplus(self.margin + negative), known)
