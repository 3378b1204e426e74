"""Dropout on the rows of a query, with draws that are the same on any number of ranks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError


@dataclass(frozen=True)
class RowDropout:
    """Sets numbers of a query's rows to 0 while training, and scales the others up (Srivastava et al., JMLR 2014).

    A query is the entity that is kept and the relation. The entities that it is compared with, the target and the
    negatives, keep their rows, so that a pool of negatives stays one for all queries that share it. Which numbers are
    dropped is a function of (seed, epoch, chunk, place in the chunk).

    Args:
        owner: name of the model, for errors and for the key of the draws.
        entity: the probability of dropping a number of the kept entity's row.
        relation: the same of the relation's row.
    """

    owner: str
    entity: float
    relation: float

    def __post_init__(self) -> None:
        for name, value in (("entity_dropout", self.entity), ("relation_dropout", self.relation)):
            if not 0 <= value < 1:
                raise InputError(f"{self.owner}.{name} must be at least 0 and below 1, got {value}")

    def entity_scale(self, batch: Batch, width: int, dtype: torch.dtype) -> Float[Tensor, "B E"] | None:
        """What the kept entities' rows are multiplied by; None for nothing."""
        return self._scale("entity", self.entity, batch, width, dtype)

    def relation_scale(self, batch: Batch, width: int, dtype: torch.dtype) -> Float[Tensor, "B R"] | None:
        """What the relations' rows are multiplied by; None for nothing."""
        return self._scale("relation", self.relation, batch, width, dtype)

    def _scale(
        self, part: str, probability: float, batch: Batch, width: int, dtype: torch.dtype
    ) -> Float[Tensor, "B W"] | None:
        # Without gradients the model is not being trained, but ranks, or proposes negatives.
        if probability == 0 or not torch.is_grad_enabled():
            return None
        kept = batch.uniform_per_positive(f"{self.owner} {part} dropout", width) >= probability
        return kept.to(dtype) / (1 - probability)
