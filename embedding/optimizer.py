"""Optimisers. Every rank updates the dense parameters; each rank updates the entity rows that it owns.

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
from kernels.updates import Ball, adagrad, adam, adam_factors, rowwise_adagrad

_FREE = Ball((), None)
State = dict[str, Tensor]


class ModelOptimizer(ABC):
    """Updates a model: its dense parameters, and the entity rows that this rank owns.

    Args:
        lr: the learning rate.
        relation_lr: the learning rate of relation rows; None for `lr`.
        eps: added to denominators; positive.
        clip_norm: the longest gradient: a longer one is scaled back to this L2 norm before the update. Norms are of the
            gradient over the global batch, summed over ranks, of each entity row and each relation row by itself, and
            of every other dense parameter as a whole. So a row is clipped alike on any number of ranks, and needs no
            norm of all rows, which the ranks would have to add up. None: no limit.
    Raises:
        InputError: a number out of range, or a step moves all rows of a table in bfloat16, which can write some alone.

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
        """On a GPU: False if `step` must leave parameters and states as they are. The host need not know; None: True.

        `steps` counts all the same: see `GlobalMeans`.
        """
        self.numbers: StepNumbers | None = None
        """In a step that a GPU repeats: where it reads the learning rate, and what else changes from step to step.

        Then `step` neither sets `lr` nor counts, because the host does not run it each time; see `StepGraph`.
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
        self.model.add_attached_gradients()
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
            # The rows are summed here, not by the kernel that moves them, for a norm is known only after the sum.
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
        """A number that changes from step to step; in a step that is repeated, where the GPU reads it."""
        return of() if self.numbers is None else self.numbers.number(of)

    def _good_with(self, gradient: RowGradient) -> Bool[Tensor, ""] | None:
        """`good` for an update of the rows that have a gradient alone: False also if none has."""
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


class _RowAdam(ModelOptimizer):
    """Adam (Kingma and Ba, ICLR 2015): two moments for each number, and one step count for all rows."""

    def __init__(
        self,
        model: KGEModel,
        *,
        lr: float,
        relation_lr: float | None,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        clip_norm: float | None,
    ) -> None:
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= value < 1:
                raise InputError(f"optimizer.{name} must be in [0, 1), got {value}")
        if weight_decay < 0:
            raise InputError(f"optimizer.weight_decay must be at least 0, got {weight_decay}")
        self.betas = (beta1, beta2)
        self.weight_decay = weight_decay
        super().__init__(model, lr, relation_lr, eps, clip_norm)

    def _new_dense_state(self, rows: Float[Tensor, "K W"]) -> State:
        return {name: torch.zeros_like(rows) for name in ("exp_avg", "exp_avg_sq")}

    def _new_row_state(self) -> State:
        width = self.model.learned_rows.shape[1]
        return {name: self.model.entity.new_rows(width) for name in ("exp_avg", "exp_avg_sq")}

    def _update_dense(
        self, rows: Float[Tensor, "K W"], gradient: Float[Tensor, "K W"], state: State, share: float
    ) -> None:
        self._move(rows, RowGradient(None, gradient), state, share, _FREE, self.good, everywhere=True)

    def _move(
        self,
        rows: Float[Tensor, "K W"],
        gradient: RowGradient,
        state: State,
        share: float,
        ball: Ball,
        good: Bool[Tensor, ""] | None,
        *,
        everywhere: bool,
    ) -> None:
        def factors() -> tuple[float, float]:
            return adam_factors(self.lr * share, self.betas, int(self.steps) + 1)

        adam(
            rows,
            state["exp_avg"],
            state["exp_avg_sq"],
            gradient,
            everywhere=everywhere,
            rate=self._number(lambda: factors()[0]),
            root=self._number(lambda: factors()[1]),
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            ball=ball,
            good=good,
        )


class DenseAdam(_RowAdam):
    """Adam over the whole table at every step, as in KBGAN.

    A row without a gradient still moves by its momentum. Each step reads and writes the whole table, so this is for
    small graphs.

    Args:
        weight_decay: weight_decay * parameter is added to the gradient (L2 regularisation, KBGAN's lambda), after
            the gradient was clipped.
    """

    moves_all_rows = True

    def _update_rows(self, rows: Float[Tensor, "L E"], state: State, gradient: RowGradient) -> None:
        model, everywhere = self.model, self.model.frozen is None
        if model.frozen is not None:
            gradient = model.frozen.of_all_learning(gradient)
        self._move(rows, gradient, state, 1.0, model.entity_ball, self.good, everywhere=everywhere)


class LazyAdam(_RowAdam):
    """Adam that updates only rows with a gradient, and their moments. Bias correction uses the number of all steps."""

    def __init__(
        self,
        model: KGEModel,
        *,
        lr: float,
        relation_lr: float | None,
        beta1: float,
        beta2: float,
        eps: float,
        clip_norm: float | None,
    ) -> None:
        super().__init__(
            model,
            lr=lr,
            relation_lr=relation_lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=0.0,
            clip_norm=clip_norm,
        )

    def _update_rows(self, rows: Float[Tensor, "L E"], state: State, gradient: RowGradient) -> None:
        given = gradient, state, 1.0, self.model.entity_ball, self._good_with(gradient)
        self._move(rows, *given, everywhere=False)


class RowwiseAdagrad(ModelOptimizer):
    """Adagrad with one number of state for each row: the sum of mean squares of its gradients (PBG, DGL-KE).

    Dense parameters have ordinary Adagrad: one number of state for each parameter value (Duchi et al., JMLR 2011).
    """

    def __init__(
        self, model: KGEModel, *, lr: float, relation_lr: float | None, eps: float, clip_norm: float | None
    ) -> None:
        super().__init__(model, lr, relation_lr, eps, clip_norm)

    def _new_dense_state(self, rows: Float[Tensor, "K W"]) -> State:
        return {"square_sum": torch.zeros_like(rows)}

    def _new_row_state(self) -> State:
        return {"square_sum": self.model.entity.new_rows(1)}

    def _update_dense(
        self, rows: Float[Tensor, "K W"], gradient: Float[Tensor, "K W"], state: State, share: float
    ) -> None:
        lr = self._number(lambda: self.lr * share)
        adagrad(rows, state["square_sum"], gradient, lr=lr, eps=self.eps, good=self.good)

    def _update_rows(self, rows: Float[Tensor, "L E"], state: State, gradient: RowGradient) -> None:
        options = {
            "lr": self._number(lambda: self.lr),
            "eps": self.eps,
            "ball": self.model.entity_ball,
            "good": self._good_with(gradient),
        }
        rowwise_adagrad(rows, state["square_sum"], gradient, **options)
