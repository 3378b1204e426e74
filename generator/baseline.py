"""Baselines of REINFORCE: what is taken off a reward so that its gradient varies less, its mean unchanged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from generator.sampler import Reward, SamplerContext
from graph.batch import Batch
from graph.errors import InputError
from graph.keys import QueryKeys


class Baseline(ABC):
    """Gives the number to take off each reward; ranks agree on it."""

    @abstractmethod
    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """Reward minus baseline for each draw; called once a step, in order. Collective."""

    def start(self, context: SamplerContext) -> None:
        """Called before a stage: what was learned of another one's rewards is of no use."""
        self.reset()

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside `keyed_rows`, equal on all ranks."""
        return {}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """See `NegativeSampler.keyed_rows`."""
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

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        if batch.epoch != self.epoch:
            self.mean = self.total / max(self.steps, 1)
            self.epoch, self.total, self.steps = batch.epoch, 0.0, 0
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

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
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


class PerQuery(RunningMean):
    """The running mean, and for each query (relation, tail) or (head, relation) how far its own rewards are from it.

    Queries differ in how close the discriminator finds their candidates: most of the variance that one mean for all of
    them leaves. What is taken off comes from past steps alone, so that the present draws do not move it and the
    gradient keeps its mean. (The expected reward of the pool, p . r, would do as well, but needs the reward of every
    candidate: `estimator=exact` then has the gradient itself.) Of several positives of a batch with one query, the
    first one's reward is kept. 8 bytes a query, partitioned over ranks.

    Args:
        decay: the share that a step keeps of the old mean, and a query's visit of its own, in [0, 1).
    """

    def start(self, context: SamplerContext) -> None:
        """See `Baseline.start`."""
        super().start(context)
        self.keys = QueryKeys(context.known)
        # The sum of a query's rewards less their step's mean and the sum of their weights, as the bits of float32.
        self.rows = KeyedRows(context.site, self.keys.num_keys, 2)

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        key = self.keys.of(batch)
        total, weight = self.rows.fetch(key).int().view(torch.float32).unbind(1)
        own = torch.where(weight > 0, total / weight, 0.0)
        distance = reward.value.mean(1).sub(reward.mean).float()
        seen = torch.stack([distance, torch.ones_like(distance)], dim=1)
        rows = self.decay * torch.stack([total, weight], dim=1) + (1 - self.decay) * seen
        self.rows.store(key, batch.slots(batch.chunk), rows.view(torch.int32).long())
        return super().advantage(reward, batch) - own[:, None]

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """What each query keeps."""
        return {"baseline_of_query": self.rows}


class LeaveOneOut(Baseline):
    """For each draw the mean reward of the positive's other draws (Kool et al., Buy 4 REINFORCE samples, 2019).

    Needs at least two independent draws a positive; takes differences between positives out of the variance.
    """

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        draws = reward.value.shape[1]
        return (reward.value - reward.value.mean(1, keepdim=True)) * (draws / (draws - 1))
