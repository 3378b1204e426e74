"""Dropout on entity and relation rows, with the same draws on any number of ranks."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError


@dataclass(frozen=True)
class Kept:
    """What dropout leaves of some rows.

    Args:
        mask: False for numbers that become 0.
        probability: that of dropping one; what is left is divided by 1 - p.
    """

    mask: Bool[Tensor, "B W"]
    probability: float

    def of(self, rows: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """The rows after dropout."""
        return rows * (self.mask.to(rows.dtype) / (1 - self.probability))


@dataclass(frozen=True)
class RowDropout:
    """While training, sets each number of a query's rows to 0 with probability p, and divides the others by 1 - p.

    (Srivastava et al., JMLR 2014.) A query is the entity that is not corrupted, and the relation. The entity in the
    corrupted place and the negatives have no dropout, so that queries can share one pool of negatives. Which numbers
    are dropped is a function of (seed, epoch, chunk, place in the chunk). If the scoring function normalises the rows
    (ConvE, TuckER), numbers are dropped after that.

    Args:
        owner: name of the model, for errors and as key of the random numbers.
        entity: p of the entity row; in [0, 1).
        relation: p of the relation row; in [0, 1).
    Raises:
        InputError: a probability out of range.
    """

    owner: str
    entity: float
    relation: float

    def __post_init__(self) -> None:
        for name, value in (("entity_dropout", self.entity), ("relation_dropout", self.relation)):
            if not 0 <= value < 1:
                raise InputError(f"{self.owner}.{name} must be at least 0 and below 1, got {value}")

    def kept_of_entities(self, batch: Batch, width: int) -> Kept | None:
        """What is left of the rows of the entities that are not corrupted; None without dropout."""
        return self._kept("entity", self.entity, batch, width)

    def kept_of_relations(self, batch: Batch, width: int) -> Kept | None:
        """What is left of the relation rows; None without dropout."""
        return self._kept("relation", self.relation, batch, width)

    def _kept(self, part: str, probability: float, batch: Batch, width: int) -> Kept | None:
        # With gradients off, the model is not trained: it ranks or proposes negatives.
        if probability == 0 or not torch.is_grad_enabled():
            return None
        return Kept(batch.kept_per_positive(f"{self.owner} {part} dropout", width, probability), probability)
