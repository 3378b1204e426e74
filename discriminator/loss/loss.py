"""The interface of losses that compare positives with negatives, and what they are given.

B is the number of positives, N of negatives for each positive. A higher score means a more plausible triple.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graph.batch import Proposal
from graph.errors import InputError
from kernels.losses import KernelLoss
from kernels.means import mean_of_rows


@dataclass(frozen=True)
class Scores:
    """The input of a loss: scores of positives and negatives, and what the sampler said about the negatives."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    known: Bool[Tensor, "B N"] | None = None
    """True where a negative is a train fact and must be left out of the loss; None: no negative is left out."""
    proposal: Proposal | None = None
    """Log-probabilities of drawing the negatives and the target; None if the sampler does not know them."""
    suspected: Bool[Tensor, "B N"] | None = None
    """True where the sampler suspects that a negative is a missing fact; None if it does not check that."""

    def kept(self) -> Bool[Tensor, "B N"]:
        """True where a negative is not left out."""
        return torch.ones_like(self.negative, dtype=torch.bool) if self.known is None else ~self.known


class Loss(nn.Module, ABC):
    """Compares the score of each positive with those of its negatives.

    A loss returns one number for each positive. `Discriminator` takes the weighted mean over the global batch, so a
    loss needs no weights and no ranks. For example, softmax cross-entropy without masking:

        def forward(self, scores):
            return torch.cat([scores.positive[:, None], scores.negative], 1).logsumexp(1) - scores.positive

    A loss may have parameters: float64, with at least one dimension. The discriminator's optimiser steps them,
    checkpoints save them, and their gradients are summed over ranks.
    """

    @property
    def needs_proposal(self) -> str | None:
        """The option that makes the loss need `Negatives.proposal`, for an error message; None if it needs none."""
        return None

    @property
    def needs_suspects(self) -> bool:
        """True if the loss needs `Negatives.suspected`."""
        return False

    @property
    def kernel(self) -> KernelLoss | None:
        """The kind and options of the kernel that computes this loss, alone or fused with the scores; None if none."""
        return None

    @abstractmethod
    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """The loss of each positive, differentiable with respect to its scores.

        Negatives that are True in `scores.known` must have no influence. If all negatives of a positive are left out,
        the loss must still be finite.

        Raises:
            InputError: the loss needs `proposal` or `suspected`, and the sampler does not give it.
        """


def proposal_of(scores: Scores, key: str) -> Proposal:
    """`scores.proposal`, which must not be None.

    Args:
        key: the option that needs it, for the error.

    Raises:
        InputError: the sampler gives no proposal.
    """
    if scores.proposal is None:
        raise no_proposal(key)
    return scores.proposal


def no_proposal(key: str) -> InputError:
    """The error if an option needs a proposal and the sampler gives none."""
    return InputError(
        f"{key} needs a generator that knows the probability of each draw (Negatives.proposal), and this run's does "
        "not; take one that does, such as generator=uniform, or a loss that does not need it, such as "
        "loss=log_sigmoid or loss=softmax"
    )


def no_suspects(key: str) -> InputError:
    """The error if a loss needs suspected negatives and the sampler marks none."""
    return InputError(
        f"{key} needs a generator that marks negatives that may be missing facts (Negatives.suspected), "
        "and this run's does not; take generator=hasa, or loss=debiased"
    )


def sum_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The sum over the negatives of each row that are not left out."""
    # `where` and not a product, because a value that is left out may be infinite.
    return value.sum(1) if known is None else torch.where(known, 0.0, value).sum(1)


def mean_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The mean over the negatives of each row that are not left out; 0 if all are left out."""
    if known is None:
        return mean_of_rows(value)
    return sum_of_unknown(value, known) / (~known).sum(1).clamp(min=1)
