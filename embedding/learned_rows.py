"""The rows that optimisers move and checkpoints hold. Scoring reads these rows, or rows that are made of them."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float
from torch import Tensor, nn

from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer
from graph.batch import Batch
from kernels.row_gradient import RowGradient


class LearnedRows(ABC):
    """The learned entity and relation rows behind those that scoring reads.

    Args:
        entity: the entity rows that scoring reads.
        scorer: has the relation rows that scoring reads.
    """

    def __init__(self, entity: EmbeddingTable, scorer: TripleScorer) -> None:
        self._entity = entity
        self._scorer = scorer

    @property
    @abstractmethod
    def weight(self) -> Float[Tensor, "L E"]:
        """The learned entity rows of this rank's block."""

    @weight.setter
    @abstractmethod
    def weight(self, rows: Float[Tensor, "L E"]) -> None: ...

    @property
    @abstractmethod
    def relation(self) -> nn.Parameter:
        """The learned relation rows, float64."""

    @abstractmethod
    def take_gradient(self) -> RowGradient:
        """The gradient of this rank's learned entity rows, after backward of a loss. Collective when partitioned.

        What else is behind the rows that scoring reads gets its gradients too, summed over ranks.
        """

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters that are neither entity rows nor the scorer's, by their names in checkpoints."""
        return {}

    def named_tensors(self) -> dict[str, Tensor]:
        """The same and the running statistics of batch norm."""
        return {}

    def relation_parameters(self) -> list[str]:
        """The names of those parameters, but for the relation rows, that have rows for each relation."""
        return []

    def encode(self) -> None:
        """Makes the rows of all entities from all edges, without dropout. Collective when partitioned."""

    def begin_step(self, batch: Batch) -> None:
        """Makes the rows that scoring reads in a training step, or prepares to: without the edges of its positives.

        Collective when partitioned.

        Args:
            batch: the global batch, on any device.
        """

    def end_step(self, good: Bool[Tensor, ""] | None) -> None:
        """Moves the running statistics of batch norm; see `KGEModel.end_step`."""


class RowsAsRead(LearnedRows):
    """Scoring reads the learned rows themselves: there is no encoder."""

    @property
    def weight(self) -> Float[Tensor, "L E"]:
        """See `LearnedRows.weight`."""
        return self._entity.weight

    @weight.setter
    def weight(self, rows: Float[Tensor, "L E"]) -> None:
        self._entity.weight = rows

    @property
    def relation(self) -> nn.Parameter:
        """See `LearnedRows.relation`."""
        return self._scorer.relation

    def take_gradient(self) -> RowGradient:
        """See `LearnedRows.take_gradient`."""
        return self._entity.take_gradient()
