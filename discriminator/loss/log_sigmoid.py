"""Log-sigmoid with margin (Sun et al., RotatE, ICLR 2019, equation 4), all negatives weighing the same."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores, sum_of_unknown
from graph.errors import InputError
from kernels.losses import KernelLoss, RowLoss

_REDUCTIONS = ("mean", "sum")


class LogSigmoid(Loss):
    """-log sigmoid(margin + s(positive)) - the mean, or the sum, of log sigmoid(-margin - s(negative)).

    With margin 0 this is binary cross-entropy on raw scores, labels 1 and 0 (conf/loss/bce.yaml).

    The mean gives all negatives together the weight of one positive. The sum leaves the negative part unrestricted:
    for scores without bounds the best ones are log N lower and rank the same, the gradient of N negatives outweighs
    that of the positive, and only the mean is compiled.

    Args:
        margin: the score -margin is where a triple counts as even; 0 for bilinear scores, positive for distances.
        reduction: "mean" or "sum", over the negatives of a positive.
    """

    def __init__(self, *, margin: float, reduction: str) -> None:
        if reduction not in _REDUCTIONS:
            raise InputError(f"loss.reduction must be {' or '.join(_REDUCTIONS)}, got {reduction!r}")
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    @property
    def kernel(self) -> KernelLoss | None:
        """Self-adversarial weights at temperature 0 are all the same: the mean. The sum has no kernel."""
        return KernelLoss(RowLoss.SELF_ADVERSARIAL, self.margin, 0.0) if self.reduction == "mean" else None

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`."""
        positive, negative, known = scores.positive, scores.negative, scores.known
        if self.kernel is not None:
            return loss_of_scores(self.kernel, positive, negative, known)
        return softplus(-self.margin - positive) + sum_of_unknown(softplus(self.margin + negative), known)
