"""What a negative sampler is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel, ModelSite
from embedding.optimizer import ModelOptimizer
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.known import KnownTriples
from graph.statistics import RelationStatistics

ScoreCandidates = Callable[[Int64[Tensor, "C M"]], Float[Tensor, "B M"]]


@dataclass(frozen=True)
class SamplerContext:
    """What every sampler is given: facts of the train set, and where a model of its own would live."""

    num_entities: int
    num_relations: int
    known: KnownTriples
    """The train facts, and no others."""
    statistics: RelationStatistics
    site: ModelSite
    train: Int64[Tensor, "T 3"]
    """The train facts one by one, on the CPU."""
    player: KGEModel | None = None
    """The model that is trained on the negatives, for samplers that look at its rows; only to be read."""


@dataclass(frozen=True)
class Reward:
    """The discriminator's answer to a sampler: higher for a negative that it finds more plausible."""

    value: Float[Tensor, "B N"]
    """For each negative, or for each candidate of the pool if `Negatives.reward_pool`."""
    mean: float
    """The mean over the whole global batch, the same on every rank."""
    spread: float | None = None
    """The standard deviation over the whole global batch, if `Negatives.reward_spread` asked for it."""

    def normalised(self) -> "Reward":
        """The same with mean 0 and spread 1 over the global batch; as it is where all rewards are equal."""
        assert self.spread is not None
        spread = self.spread or 1.0
        return Reward((self.value - self.mean) / spread, 0.0, self.spread / spread)


class NegativeSampler(ABC):
    """Proposes negatives for a batch, and may learn from the reward that they earn.

    A sampler does not know how many ranks there are: it sees some chunks of the global batch, and draws its random
    numbers from the batch (`Batch.integers`, `Batch.uniform`), where they are a function of (seed, epoch, chunk).
    """

    model: KGEModel | None = None
    """A model of the sampler's own, saved in checkpoints; None for a sampler that has none."""
    optimizer: ModelOptimizer | None = None
    """What steps `model`."""

    def __init__(self, context: SamplerContext) -> None:
        self.context = context

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """For each relation, the probability that a positive has its head corrupted rather than its tail."""
        return torch.full((self.context.num_relations,), 0.5, dtype=torch.float64)

    @property
    def learns(self) -> bool:
        """Whether `feedback` is of any use; the mean reward is made for nobody else, or for a line of metrics."""
        return type(self).feedback is not NegativeSampler.feedback

    @abstractmethod
    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Negatives for each chunk.

        Args:
            score: the discriminator's scores [B, M] of candidates [C, M], without gradient, for samplers that need its
                opinion before they choose. Collective, so all ranks must call it equally often.
        """

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Learns from the reward. Learns nothing unless overridden."""

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """What is worth knowing of the last step, as one value a positive; asked for only when a step is logged."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the model and its optimiser; equal on all ranks."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""

    def start_stage(self) -> None:
        """Called before the first step of a stage, when no checkpoint of that stage is resumed."""


def require_at_least(key: str, value: int, least: int) -> None:
    """Raises InputError unless value >= least."""
    if value < least:
        raise InputError(f"{key} must be at least {least}, got {value}")
