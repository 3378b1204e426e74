"""Rows of a model that training leaves as they are, while others learn."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from kernels.row_gradient import RowGradient

RELATION = "relation"
"""The name of relation rows among a model's dense tensors."""


class FrozenRows:
    """Which entity rows of this rank and which relation rows stay; all other dense tensors of the model stay too.

    An optimiser asks it which rows may move. Dense tensors are set back after each step, which is simpler and exact:
    they are few.

    Args:
        entity: True for an entity row of this rank's block that stays.
        relation: True for a relation row that stays.
        dense: the model's dense tensors, whose values now are those that stay.
        rows_of_a_relation: see `KGEModel`; rows of other relations may move.
    """

    def __init__(
        self,
        entity: Bool[Tensor, " L"],
        relation: Bool[Tensor, " R_"],
        dense: dict[str, Tensor],
        rows_of_a_relation: Mapping[str, int],
    ) -> None:
        self.entity = entity
        self.relation = relation
        one = relation.chunk(rows_of_a_relation[RELATION])[0]
        self._rows: dict[str, Int64[Tensor, " K"]] = {
            name: one.repeat(times).nonzero()[:, 0] for name, times in rows_of_a_relation.items()
        }
        """By tensor, the rows of relations that stay."""
        self._learns = (~entity).nonzero()[:, 0]
        self._dense = {name: tensor.detach().clone() for name, tensor in dense.items()}

    def of_learning(self, gradient: RowGradient) -> RowGradient:
        """The gradient of the entity rows that may move."""
        learns = ~self.entity[gradient.row]
        return RowGradient(gradient.row[learns], gradient.value[learns], some=gradient.some)

    def of_all_learning(self, gradient: RowGradient) -> RowGradient:
        """The same with a gradient of zeros for the other rows that may move, for optimisers that move every row."""
        among = RowGradient(torch.searchsorted(self._learns, gradient.row), gradient.value)
        return RowGradient(self._learns, among.of_all(len(self._learns)))

    @torch.no_grad()
    def set_back(self, dense: dict[str, Tensor]) -> None:
        """Gives the dense tensors the values that stay, except rows of relations that may move."""
        for name, tensor in dense.items():
            rows = self._rows.get(name)
            if rows is None:
                tensor.copy_(self._dense[name])
            else:
                tensor[rows] = self._dense[name][rows]
