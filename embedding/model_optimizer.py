"""The interface of optimisers. Every rank updates the dense parameters; each rank updates the entity rows that it owns.

Updates are synchronous: the gradient of a row is its sum over the global batch, so an update is the same, up to
rounding, on one rank and on many.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from embedding.model import KGEModel
from graph.errors import InputError
from graph.step_numbers import StepNumbers
from kernels.number import Number
from kernels.row_gradient import RowGradient
from kernels.updates import Ball

State = dict[str, Tensor]
"""Tensors of an optimiser by name, such as Adam's moments."""


class ModelOptimizer(ABC):
    """Updates a model: its dense parameters, and the entity rows that this rank owns.

    Args:
        lr: the learning rate.
        relation_lr: the learning rate of relation rows; None for `lr`.
        eps: added to denominators; positive.
        clip_norm: a gradient that is longer than this L2 norm is scaled back to it before the update; None: no limit.
            Each entity row, each relation row and every other dense parameter is clipped by itself, after its gradient
            was summed over ranks. So the result is the same on any number of ranks, and they need not add up a norm of
            all rows.
    Raises:
        InputError: a number out of range, or a table in bfloat16 with an optimiser that moves all rows.

    Example:
        positive, negative = model.score(batch, entity)
        loss(positive, negative).backward()
        optimizer.step()  # moves the parameters, then clears their gradients
    """

    moves_all_rows: ClassVar[bool] = False
    """Whether a step also moves entity rows that have no gradient."""

    def __init__(
        self, model: KGEModel, lr: float, relation_lr: float | None, eps: float, clip_norm: float | None
    ) -> None:
        if self.moves_all_rows and model.entity.rounding is not None:
            raise InputError(
                "adam moves all rows in each step, and a table in bfloat16 has no room for all of them in float32; "
                "take rowwise_adagrad or lazy_adam, or dtype=float32"
            )
        for name, value in (("lr", lr), ("relation_lr", relation_lr)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"optimizer.{name} must be a positive number, got {value}")
        if eps <= 0:  # a row whose gradients were all 0 would divide 0 by 0
            raise InputError(f"optimizer.eps must be positive, got {eps}")
        if clip_norm is not None and not 0 < clip_norm < float("inf"):
            raise InputError(f"optimizer.clip_norm must be a positive number or null, got {clip_norm}")
        self.model = model
        self.clip_norm = clip_norm
        self._base_lr = lr
        self._relation_share = 1.0 if relation_lr is None else relation_lr / lr
        self.lr = lr
        """The learning rate of the last step."""
        self.eps = eps
        self.steps = torch.zeros((), dtype=torch.int64)
        self.good: Bool[Tensor, ""] | None = None
        """On a GPU: False if `step` must leave parameters and states as they are; None: it may change them.

        It stays on the GPU, so that the host does not wait for it. `steps` counts all the same: see `GlobalMeans`.
        """
        self.numbers: StepNumbers | None = None
        """For a step that a GPU repeats: where it reads what changes from step to step, such as the learning rate.

        The host runs such a step once, so `step` neither sets `lr` nor counts then; see `StepGraph`.
        """
        # The kernels take a parameter as a matrix [rows, width].
        self._dense = [each.detach().view(*each.shape[:1] or (1,), -1) for each in model.dense_parameters()]
        self._dense_state = [self._new_dense_state(each) for each in self._dense]
        self.row_state = self._new_row_state()
        """The state of the entity rows by name, [L, W]: one row of state for each row of this rank's block."""

    def step(self, *, lr_factor: float = 1.0) -> None:
        """Applies and clears all gradients since the last step. Collective when partitioned.

        First the dense parameters move, then relation rows are scaled back to `max_norm`, then the entity rows move
        and are scaled back. The running statistics of batch norm move too. What the model has frozen does not move.
        If rows are replicated, each rank gets those that the others own.

        Args:
            lr_factor: the schedule's factor: both learning rates are multiplied by it in this step.
        Raises:
            RuntimeError: the entity table has changed since the scores were computed.
        """
        if self.numbers is None:
            self.set_lr(lr_factor)
        self.model.attached.add_gradients()
        gradient = self.model.take_gradient()
        relation = self.model.learned_relations
        for parameter, rows, state in zip(self.model.dense_parameters(), self._dense, self._dense_state, strict=True):
            if parameter.grad is not None:
                share = self._relation_share if parameter is relation else 1.0
                clipped = self._clipped(parameter.grad if parameter is relation else parameter.grad.view(1, -1))
                self._update_dense(rows, clipped.view(rows.shape), state, share)
                parameter.grad = None
        self.model.relation_ball.clip_(relation.detach(), self.good)
        frozen = self.model.frozen
        if frozen is not None:
            gradient = frozen.of_learning(gradient)
        if self.clip_norm is not None:
            # The kernel that moves rows can't sum them as well: a norm is known only after the sum.
            gradient = RowGradient(gradient.row, self._clipped(gradient.value), some=gradient.some)
        if self.model.entity.rounding is None:
            self._update_rows(self.model.learned_rows, self.row_state, gradient)
        else:
            self._update_copies(gradient)
        self.model.entity.replicate()
        self.model.end_step(self.good)
        if frozen is not None:
            frozen.set_back(self.model.dense_tensors())
        if self.numbers is None:
            self.steps += 1

    def set_lr(self, lr_factor: float) -> None:
        """Sets the learning rate of the next step: the schedule's factor times that of the options."""
        self.lr = self._base_lr * lr_factor

    def _number(self, of: Callable[[], float]) -> Number:
        """A number that changes from step to step; in a step that a GPU repeats, the place where it is read."""
        return of() if self.numbers is None else self.numbers.number(of)

    def _good_with(self, gradient: RowGradient) -> Bool[Tensor, ""] | None:
        """`good` for an update of only the rows that have a gradient: False also if there are none."""
        if gradient.some is None or self.good is None:
            return self.good if gradient.some is None else gradient.some
        return self.good & gradient.some

    def _clipped(self, gradient: Float[Tensor, "K W"]) -> Float[Tensor, "K W"]:
        """The gradient, whose rows that are longer than `clip_norm` are scaled back to it; may overwrite it."""
        if self.clip_norm is not None:
            gradient = gradient.contiguous()
            Ball((gradient.shape[1],), self.clip_norm).clip_(gradient)
        return gradient

    @abstractmethod
    def _new_dense_state(self, rows: Float[Tensor, "K W"]) -> State: ...

    @abstractmethod
    def _new_row_state(self) -> State: ...

    @abstractmethod
    def _update_dense(
        self, rows: Float[Tensor, "K W"], gradient: Float[Tensor, "K W"], state: State, share: float
    ) -> None:
        """Updates a dense parameter; its learning rate is `share` times `lr`."""

    @abstractmethod
    def _update_rows(self, rows: Float[Tensor, "L E"], state: State, gradient: RowGradient) -> None:
        """Updates entity rows, and scales the updated rows back to `max_norm` (`model.entity_ball`)."""

    def _update_copies(self, gradient: RowGradient) -> None:
        """Updates rows of a table in bfloat16: copies of those with a gradient move, and are written back rounded."""
        table = self.model.entity
        row, value = gradient.repeated()
        moved = table.weight[row].to(table.dtype)
        state = {name: each[row] for name, each in self.row_state.items()}
        number = torch.arange(len(row), device=row.device)
        self._update_rows(moved, state, RowGradient(number, value, some=gradient.some))
        table.write(row, moved, int(self.steps))
        for name, each in state.items():
            self.row_state[name][row] = each

    def dense_state(self) -> State:
        """The state without that of entity rows: "steps", and for each dense parameter "index.name"."""
        numbered = enumerate(self._dense_state)
        states = {f"{index}.{name}": value for index, state in numbered for name, value in state.items()}
        return {"steps": self.steps, **states}

    def load_dense_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `dense_state` returned."""
        for name, value in self.dense_state().items():
            value.copy_(tensors[name])
