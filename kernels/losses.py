"""Losses of positives and their negatives: one pass for the value and one for the gradient (losses.cpp)."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kernels.library import call, type_name
from kernels.shapes import expect_shape


class RowLoss(StrEnum):
    """A loss that has a kernel."""

    SOFTMAX = "softmax"
    SELF_ADVERSARIAL = "self_adversarial"


@dataclass(frozen=True)
class KernelLoss:
    """A loss that kernels compute, with its options. Fields that a loss does not use are ignored."""

    kind: RowLoss
    margin: float = 0.0
    temperature: float = 1.0

    @property
    def options(self) -> tuple[float, ...]:
        """The options that the kernel takes, in its order."""
        return () if self.kind == RowLoss.SOFTMAX else (float(self.margin), float(self.temperature))


def row_loss(
    kind: RowLoss,
    positive: Float[Tensor, " B"],
    negative: Float[Tensor, "B N"],
    known: Bool[Tensor, "B N"] | None,
    options: tuple[float, ...],
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B _"]]:
    """The loss of each positive, and the state that `row_loss_gradient` needs. `known` negatives are left out."""
    expect_shape("negative", negative, len(positive), negative.shape[1])
    expect_shape("known", known, *negative.shape)
    loss, state = torch.empty_like(positive), positive.new_empty((len(positive), 2))
    sizes = *negative.shape, *options, torch.get_num_threads()
    call(f"{kind}_loss_{type_name(negative)}", positive, negative, known, loss, state, *sizes)
    return loss, state


def row_loss_gradient(
    kind: RowLoss,
    positive: Float[Tensor, " B"],
    negative: Float[Tensor, "B N"],
    known: Bool[Tensor, "B N"] | None,
    state: Float[Tensor, "B _"],
    gradient: Float[Tensor, " B"],
    options: tuple[float, ...],
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"]]:
    """Gradients by the scores of positives and negatives of the sum of gradient * loss."""
    expect_shape("positive", positive, len(negative))
    expect_shape("known", known, *negative.shape)
    expect_shape("state", state, len(negative), 2)
    expect_shape("gradient", gradient, len(negative))
    by_positive, by_negative = torch.empty_like(positive), torch.empty_like(negative)
    given = positive, negative, known, state, gradient, by_positive, by_negative
    call(f"{kind}_gradient_{type_name(negative)}", *given, *negative.shape, *options, torch.get_num_threads())
    return by_positive, by_negative
