"""The interface of scoring functions whose queries are made by a network with batch norm or dropout."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from embedding.scoring.batch_norm import BatchNorm
from embedding.scoring.scoring import QueryScoring
from embedding.training_step import TrainingStep
from graph.errors import InputError


class NetworkScoring(QueryScoring):
    """A scoring function whose queries differ while training: with batch norm, they depend on the whole global batch.

    While training, the queries of a step are made once, by `training_queries`, for the positives, for their negatives
    and for losses over all entities. All other methods, and so ranking, samplers, generators and terms of the loss, use
    running statistics and no dropout: there a score depends on its triple alone. All this needs reciprocal relations,
    because the network takes heads and its queries are for tails. Without, it is trained as any other `QueryScoring`.
    """

    @property
    @abstractmethod
    def differs_in_training(self) -> bool:
        """True if there is batch norm or dropout inside, so that reciprocal relations must be used."""

    @abstractmethod
    def training_queries(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], step: TrainingStep
    ) -> Float[Tensor, "B Q"]:
        """The queries for tails of a training step: `tail_query` with batch statistics and dropout.

        Collective, and so is its backward. The same operations run on each rank, also for no positives, so that ranks
        communicate in the same order. All positives of a step are normalised together: those whose head is corrupted
        are queries too, for tails of inverse relations.

        Args:
            head: rows of the entities that are not corrupted, without dropout.
        """

    def batch_norm(self, name: str, channels: int) -> BatchNorm:
        """Makes a batch norm; assign it to the attribute `name`."""
        scale = self.dense_parameter(f"{name}.scale", (channels,), 1.0, 1.0)
        return BatchNorm(scale, self.dense_parameter(f"{name}.shift", (channels,), 0.0, 0.0))

    def fill_dense(self, owner: str, seed: int) -> None:
        """See `ScoringFunction.fill_dense`; also resets running statistics."""
        super().fill_dense(owner, seed)
        for norm in batch_norms(self):
            norm.reset()


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """All batch norms in a module."""
    return [each for each in module.modules() if isinstance(each, BatchNorm)]


def check_probability(name: str, value: float) -> None:
    """Raises InputError unless dropout with this probability leaves something."""
    if not 0 <= value < 1:
        raise InputError(f"{name} must be at least 0 and below 1, got {value}")


def normalised(
    norm: BatchNorm | None, value: Float[Tensor, "B *P C"], step: TrainingStep | None = None
) -> Float[Tensor, "B *P C"]:
    """The value after batch norm; as it is if there is none."""
    if norm is None:
        return value
    moments = None if step is None else step.moments
    return norm(value, moments) if value.dim() == 3 else norm(value[:, None], moments)[:, 0]
