"""What a negative sampler is."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel, ModelSite
from embedding.optimizer import ModelOptimizer
from graph.batch import Batch, Negatives, Proposal
from graph.errors import InputError
from graph.known import KnownTriples
from graph.statistics import RelationStatistics

ScoreCandidates = Callable[[Int64[Tensor, "C M"]], Float[Tensor, "B M"]]
"""The discriminator's scores of candidates in the corrupted place, without gradient. Collective."""

Statistic = Callable[[Float[Tensor, "B M"], Float[Tensor, " B"], Float[Tensor, "B N"]], Float[Tensor, " B"]]
"""One number a positive, from the rewards and from the scores of positives and of negatives; see `statistics`."""


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
    means: Mapping[str, float] = field(default_factory=dict)
    """The mean of each of `NegativeSampler.statistics`, likewise."""


class NegativeSampler(ABC):
    """Proposes negatives for a batch, and may learn from the reward that they earn.

    A sampler does not know how many ranks there are: it sees some chunks of the global batch, and draws its random
    numbers from the batch (`Batch.integers`, `Batch.uniform`), where they are a function of (seed, epoch, chunk).

    A constructor may pass options of its base class on as `**options`: `inspect.signature` of the class shows all.
    """

    __signature__: ClassVar[inspect.Signature]
    model: KGEModel | None = None
    """A model of the sampler's own, saved in checkpoints; None for a sampler that has none."""
    optimizer: ModelOptimizer | None = None
    """What steps `model`."""
    bounded_by_entities: ClassVar[Mapping[str, int]] = {}
    """Options that the graph bounds: each may be at most the number of entities less the number here."""
    least_chunk_size: ClassVar[int] = 1
    """Positives that must share a chunk."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__signature__ = _whole_signature(cls)

    def __init__(self, context: SamplerContext) -> None:
        self.context = context

    def check_options(self) -> None:
        """Raises InputError where options that `adjust` may change have values that the sampler can't work with."""

    def adjust(self, **options: int | float) -> None:
        """Changes options of these names from the next step on.

        Raises:
            InputError: the sampler can't work with the values.
        """
        for name, value in options.items():
            setattr(self, name, value)
        self.check_options()

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """For each relation, the probability that a positive has its head corrupted rather than its tail."""
        return torch.full((self.context.num_relations,), 0.5, dtype=torch.float64)

    @property
    def learns(self) -> bool:
        """True if the sampler learns in `feedback`; only then does the trainer compute mean rewards."""
        return type(self).feedback is not NegativeSampler.feedback

    @property
    def knows_proposal(self) -> bool:
        """Whether `Negatives.proposal` is given, which some losses need."""
        return False

    @property
    def suspects(self) -> bool:
        """Whether `Negatives.suspected` is given, which some losses need."""
        return False

    @property
    def rewards_pool(self) -> bool:
        """Whether `Negatives.reward_pool` is set: the reward of every candidate is asked for."""
        return False

    def check_chunk_size(self, chunk_size: int) -> None:
        """Raises InputError if this sampler can't serve chunks of so many positives."""

    @abstractmethod
    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Negatives for each chunk.

        Args:
            score: the discriminator's scores [B, M] of candidates [C, M], without gradient, for samplers that need its
                opinion before they choose. Collective, so all ranks must call it equally often.
        """

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """The log-probability that one draw for a positive is each of these entities, over all entities; or None.

        None where it is not known, or where a positive's own target could never be drawn. Minus infinity for other
        entities that could not be. Asked for after `propose`, of the same batch. Collective where `propose` is.

        Args:
            entity: one row for each of C equal groups of consecutive positives.
        """
        return None

    def proposal(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Proposal | None:
        """What `log_q` says of negatives that were drawn and of the targets, for `Negatives.proposal`."""
        negative = self.log_q(batch, entity)
        target = None if negative is None else self.log_q(batch, batch.target[:, None])
        return None if negative is None or target is None else Proposal(negative, target[:, 0])

    def statistics(self) -> Mapping[str, Statistic]:
        """What `feedback` wants to know of the whole global batch, by name.

        The trainer takes each statistic of this rank's positives, and gives its weighted mean over the global batch
        back as `Reward.means`. Asked for after `propose`, of a sampler that learns; all ranks must name the same.
        """
        return {}

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Learns from the reward. Learns nothing unless overridden."""

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """What is worth knowing of the last step, as one value a positive; asked for only when a step is logged."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the model, its optimiser and `keyed_rows`; equal on all ranks."""
        return {}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """By name what is partitioned over ranks: each writes its own rows into a checkpoint, and reads them again."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""

    def start_stage(self) -> None:
        """Called before the first step of a stage, when no checkpoint of that stage is resumed."""


def _whole_signature(cls: type) -> inspect.Signature:
    """The signature of a class's constructor, with the options of its base class in the place of `**options`."""
    if "__init__" not in vars(cls):
        return inspect.signature(cls.__base__ or object)
    (_, *own) = inspect.signature(vars(cls)["__init__"]).parameters.values()
    if own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return inspect.Signature(own)
    named = {parameter.name: parameter for parameter in own[:-1]}
    passed_on = inspect.signature(cls.__base__ or object).parameters
    return inspect.Signature([*named.values(), *(each for name, each in passed_on.items() if name not in named)])


def require_at_least(key: str, value: int, least: int) -> None:
    """Raises InputError unless value >= least."""
    if value < least:
        raise InputError(f"{key} must be at least {least}, got {value}")
