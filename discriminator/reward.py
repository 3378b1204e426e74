"""What a negative earns the generator."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from graph.errors import InputError


class RewardFunction(ABC):
    """Turns the discriminator's scores into a reward: higher for a negative that the generator should propose more."""

    @abstractmethod
    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"], step: int
    ) -> Float[Tensor, "B M"]:
        """The reward of each negative; scores come without gradient.

        Args:
            step: the step of the stage, counted from 0.
        """


class ScoreReward(RewardFunction):
    """The discriminator's score itself, minus the distance for a distance model (KBGAN, equation 5)."""

    def __call__(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"], step: int
    ) -> Float[Tensor, "B M"]:
        """See `RewardFunction`."""
        return negative


class BandReward(RewardFunction):
    """Minus the distance of a negative's score from that of its positive less a margin, -|s- - (s+ - margin)|.

    Hard negatives earn more than easy ones, but one that scores as high as the positive, and so may be a fact that is
    missing, earns less than one a margin below it. The rule is by which adaptive sampling (ASA, AAAI 2021) chooses a
    negative among candidates; here a generator learns to follow it. The margin goes from `first_margin` to
    `last_margin` in equal steps, and then stays.

    Args:
        first_margin: how far below the positive the best reward is at the first step of the stage; at least 0.
        last_margin: the same from step `steps` on.
        steps: how many steps the margin takes; 0: it is the last one all the time.
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
