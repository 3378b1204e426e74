"""Weights: a copy of all tensors of a model, for averages of its parameters over time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel


class Weights:
    """The entity rows that this rank owns, and all dense tensors of a model: parameters and buffers.

    Each rank keeps its own rows, and all ranks compute equal dense tensors. Only what gives a model other weights is
    collective, and only if the model has an encoder, which then makes its rows again.

    An average needs no projection: rows that `max_norm` limits lie in a ball, and so do their averages. Scoring
    functions whose rows have another constraint, such as unit quaternions, impose it while they score.

    Example:
        average = Weights.of(model)
        average.move_towards(model, 0.5)  # now halfway between the model then and the model now
        with average.in_place_in(model):
            evaluator.evaluate(model, triples)
    """

    def __init__(self, entity: Float[Tensor, "L E"], dense: dict[str, Tensor]) -> None:
        self.entity = entity
        self.dense = dense
        """As in `KGEModel.dense_tensors`."""

    @classmethod
    def of(cls, model: KGEModel) -> "Weights":
        """Copies the weights of a model."""
        dense = {name: tensor.detach().clone() for name, tensor in model.dense_tensors().items()}
        return cls(model.learned_rows.detach().clone(), dense)

    def copy(self) -> "Weights":
        """A copy that changes independently."""
        return Weights(self.entity.clone(), {name: tensor.clone() for name, tensor in self.dense.items()})

    @torch.no_grad()
    def move_towards(self, model: KGEModel, share: float) -> None:
        """Adds `share` of the difference to the model: 0 changes nothing, 1 copies the model.

        This holds for parameters of floating point. Buffers, such as running statistics, are copied.
        """
        named = model.named_dense_parameters()
        averaged = {name for name, parameter in named.items() if parameter.is_floating_point()}
        self.entity.lerp_(model.learned_rows, share)
        for name, tensor in model.dense_tensors().items():
            if name in averaged:
                self.dense[name].lerp_(tensor, share)
            else:
                self.dense[name].copy_(tensor)

    @torch.no_grad()
    def copy_to(self, model: KGEModel) -> None:
        """Overwrites all weights of a model."""
        model.learned_rows.copy_(self.entity)
        _fill(model, self.dense)
        model.encode()

    @contextmanager
    def in_place_in(self, model: KGEModel) -> Iterator[None]:
        """Within it the model has these weights, afterwards its own again. No step may be taken within."""
        own = {name: tensor.detach().clone() for name, tensor in model.dense_tensors().items()}
        rows, model.learned_rows = model.learned_rows, self.entity  # exchanged, for a copy would need more memory
        try:
            _fill(model, self.dense)
            model.encode()
            yield
        finally:
            model.learned_rows = rows
            _fill(model, own)
            model.encode()


@torch.no_grad()
def _fill(model: KGEModel, dense: dict[str, Tensor]) -> None:
    # In place, because DDP and the optimiser hold these tensors.
    for name, tensor in model.dense_tensors().items():
        tensor.copy_(dense[name])
