"""Baselines of REINFORCE: numbers subtracted from rewards to lower the variance of the policy gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from generator.sampler import Mean, Reward, SamplerContext, unchanged
from graph.batch import Batch
from graph.errors import InputError
from graph.keys import QueryKeys


class Baseline(ABC):
    """Computes a number to subtract from each reward. Baselines of past rewards are the same on every rank."""

    repeats: ClassVar[bool] = False
    """Whether a GPU may repeat `advantage`: see `NegativeSampler.repeats`."""

    def prepare(self, batch: Batch) -> None:
        """Looks up what `advantage` needs of the batch, before the rewards are known. Collective."""

    @abstractmethod
    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """The reward minus the baseline, for each draw. Call it once in each step, after `prepare`. Collective."""

    def undo(self) -> Callable[[], object] | None:
        """What takes back all later calls of `advantage`; None if that can't be. See `NegativeSampler.undo`."""
        return None

    def count_repeated(self) -> None:
        """Called in place of `advantage` when a GPU has repeated it: does what it does on the host."""

    def start(self, context: SamplerContext) -> None:
        """Called before a stage: forgets the rewards of the stage before."""
        self.reset()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint saves beside `keyed_rows`. It must be equal on all ranks."""
        return {}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """See `NegativeSampler.keyed_rows`."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""

    def reset(self) -> None:
        """Forgets all rewards."""


class PreviousEpoch(Baseline):
    """The mean reward of the previous epoch; 0 in the first epoch (Cai and Wang, KBGAN, NAACL 2018)."""

    repeats = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """See `Baseline.reset`."""
        self.epoch = 0
        self.mean: Mean = 0.0
        self.total: Mean = 0.0
        self.steps = 0

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        if isinstance(reward.mean, Tensor) and not isinstance(self.total, Tensor):
            # From now on they stay where they are, for steps that a GPU repeats.
            self.mean, self.total = (torch.full_like(reward.mean, float(each)) for each in (self.mean, self.total))
        if batch.epoch != self.epoch:
            mean = self.total / max(self.steps, 1)
            if isinstance(self.mean, Tensor) and isinstance(self.total, Tensor):
                self.mean.copy_(torch.as_tensor(mean))
                self.total.zero_()
            else:
                self.mean, self.total = mean, 0.0
            self.epoch, self.steps = batch.epoch, 0
        self.total += reward.mean
        self.steps += 1
        return reward.value - self.mean

    def undo(self) -> Callable[[], object] | None:
        """See `Baseline.undo`."""
        epoch, steps = self.epoch, self.steps
        mean, total = (each.clone() if isinstance(each, Tensor) else each for each in (self.mean, self.total))

        def back() -> None:
            self.epoch, self.steps, self.mean, self.total = epoch, steps, mean, total

        return back

    def count_repeated(self) -> None:
        """See `Baseline.count_repeated`."""
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """See `Baseline.state`."""
        numbers = self.epoch, float(self.mean), float(self.total), self.steps
        return {"baseline": torch.tensor(numbers, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Baseline.load_state`."""
        epoch, self.mean, self.total, steps = state["baseline"].tolist()
        self.epoch, self.steps = int(epoch), int(steps)


class RunningMean(Baseline):
    """The exponential moving average of the mean rewards of past steps.

    Args:
        decay: the weight of the old average in each step, in [0, 1); the step's mean reward has weight 1 - decay.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"generator.baseline.decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.reset()

    def reset(self) -> None:
        """See `Baseline.reset`."""
        self.mean: Mean = 0.0
        self.weight = 0.0

    def undo(self) -> Callable[[], object] | None:
        """See `Baseline.undo`."""
        mean, weight = self.mean, self.weight

        def back() -> None:
            self.mean, self.weight = mean, weight

        return back

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        # Divided by the total weight of past rewards: otherwise the average would be too close to 0 in the first steps.
        advantage = reward.value - (self.mean / self.weight if self.weight else 0.0)
        self.mean = self.decay * self.mean + (1 - self.decay) * reward.mean
        self.weight = self.decay * self.weight + (1 - self.decay)
        return advantage

    def state(self) -> dict[str, Tensor]:
        """See `Baseline.state`."""
        return {"baseline": torch.tensor([float(self.mean), self.weight], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Baseline.load_state`."""
        self.mean, self.weight = state["baseline"].tolist()


class PerQuery(RunningMean):
    """The running mean, plus an average for each query (relation, tail) or (head, relation) of its distance from it.

    Rewards differ between queries, because some queries have more plausible candidates. One mean for all queries leaves
    this part of the variance. The averages use past steps only. So the baseline does not depend on the current draws,
    and the gradient stays unbiased. (The expected reward of the pool would serve too, but it needs the reward of every
    candidate, and with those `estimator=exact` computes the gradient itself.)

    If a batch has several positives with one query, the average takes the reward of the first. Memory: 8 bytes for each
    query, partitioned over ranks, and 4 more on every rank.

    Args:
        decay: the weight of the old average, in [0, 1), each time that a step has rewards (running mean) or a batch has
            the query (average of the query).
    """

    def start(self, context: SamplerContext) -> None:
        """See `Baseline.start`."""
        super().start(context)
        self.keys = QueryKeys(context.known)
        # For each query: the weighted sum of (its reward - its step's mean reward), and the sum of the weights. Both
        # are float32 whose bits are stored as int32.
        name = f"generator.baseline: averages of {self.keys.num_keys:,} queries"
        self.rows = KeyedRows(context.site, self.keys.num_keys, 2, name=name)

    def prepare(self, batch: Batch) -> None:
        """See `Baseline.prepare`."""
        self._found = self.rows.look_up(self.keys.of(batch))

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        total, weight = self._found.row.view(torch.float32).unbind(1)
        own = torch.where(weight > 0, total / weight, 0.0)
        distance = reward.value.mean(1).sub(reward.mean).float()
        seen = torch.stack([distance, torch.ones_like(distance)], dim=1)
        rows = self.decay * torch.stack([total, weight], dim=1) + (1 - self.decay) * seen
        self.rows.store(self._found, batch.slots(batch.chunk), rows.view(torch.int32))
        return super().advantage(reward, batch) - own[:, None]

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The averages of the queries."""
        return {"baseline_of_query": self.rows}


class LeaveOneOut(Baseline):
    """For each draw, the mean reward of the positive's other draws (Kool et al., Buy 4 REINFORCE samples, 2019).

    It removes the variance that comes from differences between positives. Needs at least two independent draws for each
    positive.
    """

    repeats = True

    def undo(self) -> Callable[[], object] | None:
        """See `Baseline.undo`."""
        return unchanged

    def advantage(self, reward: Reward, batch: Batch) -> Float[Tensor, "B N"]:
        """See `Baseline.advantage`."""
        draws = reward.value.shape[1]
        return (reward.value - reward.value.mean(1, keepdim=True)) * (draws / (draws - 1))
