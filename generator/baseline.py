"""Baselines of REINFORCE: what is taken off a reward so that its gradient varies less, its mean unchanged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from generator.sampler import Reward
from graph.errors import InputError


class Baseline(ABC):
    """Gives the number to take off each reward; sees only rewards of the whole global batch, so ranks agree."""

    @abstractmethod
    def advantage(self, reward: Reward, epoch: int) -> Float[Tensor, "B N"]:
        """Reward minus baseline for each draw; called once a step, in order."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""

    def reset(self) -> None:
        """Forgets every reward seen."""


class PreviousEpoch(Baseline):
    """The mean reward of the previous epoch, 0 in the first one (Cai and Wang, KBGAN, NAACL 2018)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """See `Baseline.reset`."""
        self.epoch = 0
        self.mean = self.total = 0.0
        self.steps = 0

    def advantage(self, reward: Reward, epoch: int) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        if epoch != self.epoch:
            self.mean = self.total / max(self.steps, 1)
            self.epoch, self.total, self.steps = epoch, 0.0, 0
        self.total += reward.mean
        self.steps += 1
        return reward.value - self.mean

    def state(self) -> dict[str, Tensor]:
        """See `Baseline.state`."""
        return {"baseline": torch.tensor([self.epoch, self.mean, self.total, self.steps], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Baseline.load_state`."""
        epoch, self.mean, self.total, steps = state["baseline"].tolist()
        self.epoch, self.steps = int(epoch), int(steps)


class RunningMean(Baseline):
    """An exponentially weighted mean of past steps' rewards.

    Args:
        decay: the share that a step keeps of the old mean, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"generator.baseline.decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.reset()

    def reset(self) -> None:
        """See `Baseline.reset`."""
        self.mean = self.weight = 0.0

    def advantage(self, reward: Reward, epoch: int) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        # Divided by the weight of what was seen, so that the first steps are not pulled to 0.
        advantage = reward.value - (self.mean / self.weight if self.weight else 0.0)
        self.mean = self.decay * self.mean + (1 - self.decay) * reward.mean
        self.weight = self.decay * self.weight + (1 - self.decay)
        return advantage

    def state(self) -> dict[str, Tensor]:
        """See `Baseline.state`."""
        return {"baseline": torch.tensor([self.mean, self.weight], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Baseline.load_state`."""
        self.mean, self.weight = state["baseline"].tolist()


class LeaveOneOut(Baseline):
    """For each draw the mean reward of the positive's other draws (Kool et al., Buy 4 REINFORCE samples, 2019).

    Needs at least two independent draws a positive; takes differences between positives out of the variance.
    """

    def advantage(self, reward: Reward, epoch: int) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        draws = reward.value.shape[1]
        return (reward.value - reward.value.mean(1, keepdim=True)) * (draws / (draws - 1))
