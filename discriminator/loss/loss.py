"""What a loss is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graph.batch import Proposal
from graph.errors import InputError
from kernels.losses import KernelLoss


@dataclass(frozen=True)
class Scores:
    """What a loss is made from: the scores of positives and of their negatives, and what is known of these."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    known: Bool[Tensor, "B N"] | None = None
    """True where a negative is a known fact, to be left out; None if nothing is masked."""
    proposal: Proposal | None = None
    """What the negatives were drawn from, where the sampler knows it: for losses that correct for it."""
    suspected: Bool[Tensor, "B N"] | None = None
    """True where the sampler takes a negative for a missing fact; None if it does not judge that."""

    def kept(self) -> Bool[Tensor, "B N"]:
        """True where a negative is not masked."""
        return torch.ones_like(self.negative, dtype=torch.bool) if self.known is None else ~self.known


class Loss(nn.Module, ABC):
    """Compares the score of each positive with those of its negatives.

    It gives one value a positive; who calls it takes the mean over the global batch, so that a loss need not know of
    weights or ranks. What a loss learns are parameters in float64 of at least one axis: they are stepped, saved and
    resumed with the discriminator's model, and their gradient is summed over ranks.
    """

    @property
    def needs_proposal(self) -> str | None:
        """The option that asks for `Negatives.proposal`, for an error; None if the loss does without it."""
        return None

    @property
    def needs_suspects(self) -> bool:
        """Whether the loss asks for `Negatives.suspected`."""
        return False

    @property
    def kernel(self) -> KernelLoss | None:
        """What this loss is to kernels, from scores or fused with making them; None if no kernel computes it."""
        return None

    @abstractmethod
    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """The loss of each positive."""


def proposal_of(scores: Scores, key: str) -> Proposal:
    """What the negatives were drawn from.

    Args:
        key: the option that asks for it, for the error.

    Raises:
        InputError: the sampler does not know.
    """
    if scores.proposal is None:
        raise no_proposal(key)
    return scores.proposal


def no_proposal(key: str) -> InputError:
    """The error of an option that needs a proposal where there is none."""
    return InputError(
        f"{key} needs a generator that knows what it draws from (Negatives.proposal), and this run's does not; "
        "take one that does, such as generator=uniform, or a loss that does not correct for it, such as "
        "loss=log_sigmoid or loss=softmax"
    )


def no_suspects(key: str) -> InputError:
    """The error of a loss that needs suspected negatives where there are none."""
    return InputError(
        f"{key} needs a generator that says which negatives it suspects of being facts (Negatives.suspected), "
        "and this run's does not; take generator=hasa, or loss=debiased"
    )


def sum_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The sum over each row's negatives that are not masked."""
    # `where`, not a product: a masked value may be infinite.
    return value.sum(1) if known is None else torch.where(known, 0.0, value).sum(1)


def mean_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The mean over each row's negatives that are not masked; 0 where all are."""
    if known is None:
        return value.mean(1)
    return sum_of_unknown(value, known) / (~known).sum(1).clamp(min=1)
