"""The interface of negative samplers, and what they are given.

B is the number of positives on this rank, C of chunks (B = C x chunk_size; the positives of a chunk have one corrupted
side), N of negatives for each positive, M of candidates, R of relations. A method that is marked Collective exchanges
data between ranks: every rank must call it, in the same order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int32, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.site import ModelSite
from graph.batch import Batch, Negatives, Proposal
from graph.errors import InputError
from graph.known import KnownTriples
from graph.passed_on import PassesOptionsOn
from graph.statistics import RelationStatistics

ScoreCandidates = Callable[[Int64[Tensor, "C M"]], Float[Tensor, "B M"]]
"""Maps candidates [C, M] to the discriminator's scores [B, M] of the corrupted triples; no gradient. Collective."""

Mean = float | Float64[Tensor, ""]
"""A mean over the global batch. On one rank with a GPU it is a tensor there: code that computes with it waits for
nothing, and code that makes a float of it waits for the GPU."""

Statistic = Callable[[Float[Tensor, "B M"], Float[Tensor, " B"], Float[Tensor, "B N"]], Float[Tensor, " B"]]
"""Maps rewards [B, M], scores of positives [B] and scores of negatives [B, N] to one number for each positive [B].

See `NegativeSampler.statistics`.
"""


@dataclass(frozen=True)
class SamplerContext:
    """What every sampler is given: the train facts, and the device and placement for a model of its own."""

    num_entities: int
    num_relations: int
    known: KnownTriples
    """Index of the train facts. It has no facts of valid or test."""
    statistics: RelationStatistics
    site: ModelSite
    train: Int32[Tensor, "T 3"]
    """The train facts as rows (head, relation, tail), on the CPU."""
    entity_names: Sequence[str]
    relation_names: Sequence[str]
    """The names of ids, for samplers that read a file."""
    player: KGEModel | None = None
    """The model that is trained on the negatives. Samplers may read its rows, but must not change them."""

    def require_vectors(self) -> None:
        """Raises InputError if the model that is trained has no vectors of entities, which a sampler compares."""
        if self.player is not None and not self.player.has_vectors:
            raise InputError(
                f"this sampler compares vectors of entities, and {self.player.name} learns none; take one that draws "
                "or scores candidates, such as uniform, kbgan or nscaching"
            )


@dataclass(frozen=True)
class Reward:
    """The discriminator's reward for a sampler's negatives. Higher means: propose it more often."""

    value: Float[Tensor, "B N"]
    """The reward of each negative [B, N]; of each candidate of the pool [B, M] if `Negatives.reward_pool` is set."""
    mean: Mean
    """The weighted mean over the global batch, the same on every rank."""
    means: Mapping[str, Mean] = field(default_factory=dict)
    """The same weighted mean of each of `NegativeSampler.statistics`, by name."""


class NegativeSampler(PassesOptionsOn, ABC):
    """Proposes negatives for a batch. A sampler that learns also gets their reward.

    The trainer calls, in each step, `propose`, then `feedback` if `learns` is true, then `metrics` if the step is
    logged. For example, a sampler that draws uniformly:

        def propose(self, batch, score):
            return Negatives(batch.integers("negatives", 8, self.context.num_entities))  # [C, 8]

    A rank proposes for its own chunks of the global batch. Negatives must not depend on the number of ranks. So random
    numbers are taken from the batch (`Batch.integers`, `Batch.uniform`): they are a function of (seed, epoch, chunk).

    A constructor may pass options on to its base class as `**options`.
    """

    model: KGEModel | None = None
    """The sampler's own model, which checkpoints save; None if it has no model."""
    optimizer: ModelOptimizer | None = None
    """The optimiser of `model`."""
    bounded_by_entities: ClassVar[Mapping[str, int]] = {}
    """Options that a small graph limits: {"pool_size": 1} means that pool_size may be at most the entities minus 1."""
    draws_resident: ClassVar[bool] = False
    """Whether negatives come from `Batch.entities`, or are the batch's own, so that a table on disk serves them from
    memory."""
    least_chunk_size: ClassVar[int] = 1
    """The smallest trainer.chunk_size that the sampler can work with."""

    def __init__(self, context: SamplerContext) -> None:
        self.context = context

    def check_options(self) -> None:
        """Checks the options that `adjust` may change; raises InputError if a value is not allowed."""

    def adjust(self, **options: int | float) -> None:
        """Sets options, by name, for the next and all later steps: `adjust(num_negatives=8)`.

        Raises:
            InputError: a value is not allowed, see `check_options`.
        """
        for name, value in options.items():
            setattr(self, name, value)
        self.check_options()

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """For each relation, the probability that the head of a positive is corrupted, and not its tail."""
        return torch.full((self.context.num_relations,), 0.5, dtype=torch.float64)

    @property
    def learns(self) -> bool:
        """True if the sampler learns in `feedback`; only then does the trainer compute mean rewards."""
        return type(self).feedback is not NegativeSampler.feedback

    @property
    def repeats(self) -> bool:
        """True if a GPU may repeat `propose` and `feedback` without Python, as parts of a CUDA graph.

        They must do the same in all steps of an epoch but its first, except for the contents of tensors: the same
        operations, with the same numbers, on tensors of the same shape, and what is kept between steps stays in the
        same memory. Random numbers must come from the batch, which may not be sliced by side. See `StepGraph`.
        """
        return False

    def undo(self) -> Callable[[], object] | None:
        """What takes back all that `propose` and `feedback` change from now on, except the model and its optimiser.

        A step of several ranks may have to be made again, and perhaps the host learns of it only some steps later: see
        `FixedPieces`. Called between `propose` and `feedback`. What `KeyedRows.store` stores need not be taken back: it
        is written at the end of a step, and only if all rows fitted. Nor need what a step changes that `refreshes`.

        Returns:
            None, the default, for a sampler that can't take steps back, or that looks up rows whose number is not in
            proportion to the chunks of its batch, or looks up rows in `feedback`.
        """
        return None

    def refreshes(self, batch: Batch) -> bool:
        """Whether `propose` of this global batch does more than in other steps: looks up other numbers of rows, or
        changes what `undo` does not take back.

        Several ranks count their rows in such a step, and before it their hosts wait to know that all steps were good.
        The same on all ranks.
        """
        return False

    def count_repeated(self) -> None:
        """Called after a step that a GPU has repeated: does what `propose` and `feedback` do on the host."""

    @property
    def knows_proposal(self) -> bool:
        """True if `propose` sets `Negatives.proposal`, which some losses need."""
        return False

    @property
    def suspects(self) -> bool:
        """True if `propose` sets `Negatives.suspected`, which some losses need."""
        return False

    @property
    def rewards_pool(self) -> bool:
        """True if `propose` sets `Negatives.reward_pool`: the reward of every candidate in the pool is wanted."""
        return False

    @property
    def given(self) -> Int64[Tensor, "K 3"]:
        """Negative triples that a user gave the sampler: a run says how many of them are facts of valid or test."""
        return torch.empty(0, 3, dtype=torch.int64)

    def check_chunk_size(self, chunk_size: int) -> None:
        """Raises InputError if the sampler can't work with chunks of this many positives."""

    @abstractmethod
    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Chooses entities that replace `batch.target`, the head or the tail of each positive.

        Args:
            batch: the positives of this rank's chunks.
            score: the discriminator's scores [B, M] of candidates [C, M], without gradient, for samplers that choose by
                score. Collective: all ranks must call it equally often.

        Returns:
            `Negatives` whose `entity` is [C, N] if the positives of a chunk share their negatives, and [B, N] if each
            positive has its own. The caller scores them all: one matrix product for each chunk if they are shared,
            one row-by-row product for each negative otherwise.
        """

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """The log-probability, in nats, that one draw for a positive gives each of these entities.

        Call it after `propose`, with the same batch. Collective if `propose` is.

        Args:
            entity: entities for each group of B / C consecutive positives; C may be any divisor of B.

        Returns:
            Minus infinity for an entity that can't be drawn. None if the sampler does not know the probabilities, or
            if it can never draw a positive's own target.
        """
        return None

    def proposal(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Proposal | None:
        """`log_q` of the drawn negatives and of the targets, as `Negatives.proposal` needs it; None if unknown."""
        negative = self.log_q(batch, entity)
        target = None if negative is None else self.log_q(batch, batch.target[:, None])
        return None if negative is None or target is None else Proposal(negative, target[:, 0])

    def statistics(self) -> Mapping[str, Statistic]:
        """Statistics whose means over the global batch `feedback` needs, by name.

        The trainer calls each function with this rank's rewards [B, M], positive scores [B] and negative scores [B, N].
        It returns one number for each positive. `feedback` gets the weighted mean over the global batch in
        `Reward.means`, under the same name. For example, the mean square of the reward:

            return {"square": lambda reward, positive, negative: reward.double().square().mean(1)}

        Called after `propose`, if `learns` is true. All ranks must give the same names in the same order.
        """
        return {}

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Learns from the reward: called once for each `propose`, after it. Does nothing unless overridden. Collective.

        Args:
            batch: the batch that `propose` got.
            negatives: what `propose` returned.
            reward: without gradient; `value` is [B, N], or [B, M] if `negatives.reward_pool` is set.
        """

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """Metrics of the last step by name, one value for each positive. Called only in steps that are logged."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint saves beside the model, its optimiser and `keyed_rows`. It must be equal on all ranks."""
        return {}

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """State that is partitioned over ranks, by name: tables of rows, of which each rank keeps some.

        A checkpoint saves the rows of each rank, and gives them back to whichever rank keeps them on resume. For
        example, the caches of NSCaching: `return {"caches": self.caches}`.
        """
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""

    def start_stage(self) -> None:
        """Prepares for a new stage. Called before its first step, but not when a run resumes within the stage."""


def unchanged() -> None:
    """What `NegativeSampler.undo` gives if steps change nothing of a sampler."""


def require_at_least(key: str, value: int, least: int) -> None:
    """Raises InputError unless value >= least."""
    if value < least:
        raise InputError(f"{key} must be at least {least}, got {value}")
