"""What a loss is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graph.batch import Proposal
from kernels.losses import OnePassLoss


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


class Loss(nn.Module, ABC):
    """Compares the score of each positive with those of its negatives.

    It gives one value a positive; who calls it takes the mean over the global batch, so that a loss need not know of
    weights or ranks. What a loss learns are parameters in float64 of at least one axis: they are stepped, saved and
    resumed with the discriminator's model, and their gradient is summed over ranks.
    """

    @property
    def one_pass(self) -> OnePassLoss | None:
        """The same loss for a kernel that judges scores while it makes them; None for one that has none."""
        return None

    @abstractmethod
    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """The loss of each positive."""


def mean_of_unknown(value: Float[Tensor, "B N"], known: Bool[Tensor, "B N"] | None) -> Float[Tensor, " B"]:
    """The mean over each row's negatives that are not masked; 0 where all are."""
    if known is None:
        return value.mean(1)
    kept = ~known
    # `where`, not a product: a masked value may be infinite.
    return torch.where(kept, value, 0.0).sum(1) / kept.sum(1).clamp(min=1)
