"""What a negative earns the generator."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class RewardFunction(ABC):
    """Turns the discriminator's scores into a reward: higher for a negative that the generator should propose more."""

    @abstractmethod
    def __call__(self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """The reward of each negative; scores come without gradient."""


class ScoreReward(RewardFunction):
    """The discriminator's score itself, minus the distance for a distance model (KBGAN, equation 5)."""

    def __call__(self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """See `RewardFunction`."""
        return negative
