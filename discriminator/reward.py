"""Rewards: how the discriminator's scores become the reward that a generator learns from."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from graph.errors import InputError


class RewardFunction(ABC):
    """Maps the discriminator's scores to rewards. A negative of higher reward should be proposed more often."""

    depends_on_step: ClassVar[bool] = True
    """Whether the reward of the same scores may change from step to step."""

    @abstractmethod
    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"], step: int
    ) -> Float[Tensor, "B M"]:
        """The reward of each negative.

        Args:
            positive: scores of the positives, without gradient.
            negative: scores of the M negatives, or candidates, of each positive, without gradient.
            step: the step of the stage, from 0.
        """


class ScoreReward(RewardFunction):
    """The discriminator's score. For a distance model it is minus the distance (KBGAN, equation 5)."""

    depends_on_step = False

    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"], step: int
    ) -> Float[Tensor, "B M"]:
        """See `RewardFunction`."""
        return negative


class BandReward(RewardFunction):
    """-|s- - (s+ - margin)|: highest for a negative that scores one margin below its positive.

    Hard negatives get more reward than easy ones. But a negative that scores as high as the positive may be a missing
    fact, so it gets less than one that scores a margin below. Adaptive sampling (ASA, AAAI 2021) chooses a negative
    among candidates by this rule; here a generator learns it. The margin changes linearly from `first_margin` to
    `last_margin` over `steps` steps, and then stays.

    Args:
        first_margin: the margin at the first step of the stage, in units of the score; at least 0.
        last_margin: the margin from step `steps` of the stage on; at least 0.
        steps: the steps over which the margin changes; 0: always last_margin.
    """

    def __init__(self, *, first_margin: float, last_margin: float, steps: int) -> None:
        for key, value in (("first_margin", first_margin), ("last_margin", last_margin), ("steps", steps)):
            if value < 0:
                raise InputError(f"reward.{key} must be at least 0, got {value}")
        self.first_margin = first_margin
        self.last_margin = last_margin
        self.steps = steps

    def margin(self, step: int) -> float:
        """The margin at a step."""
        done = min(step / self.steps, 1.0) if self.steps else 1.0
        return self.first_margin + (self.last_margin - self.first_margin) * done

    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"], step: int
    ) -> Float[Tensor, "B M"]:
        """See `RewardFunction`."""
        return -(negative - (positive[:, None] - self.margin(step))).abs()
