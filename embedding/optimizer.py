"""Optimisers of a model: dense parameters through torch.optim, entity rows at their owner, once a step.

All of them are synchronous: the gradient of a row is the sum over the global batch, so the update is the same on one
rank and on many.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from embedding.table import RowGradient
from graph.errors import InputError


class ModelOptimizer(ABC):
    """Steps a model: its dense parameters, and the rows of its entity table that this rank owns."""

    def __init__(self, model: KGEModel, lr: float, eps: float) -> None:
        if lr <= 0:
            raise InputError(f"optimizer.lr must be positive, got {lr}")
        if eps <= 0:  # a row whose gradients were all 0 would divide 0 by 0
            raise InputError(f"optimizer.eps must be positive, got {eps}")
        self.model = model
        self.lr = lr
        self.eps = eps
        self.dense = self._dense_optimizer()
        self.row_state = self._new_row_state()
        """One row of state a row of the table, by name."""

    def step(self) -> None:
        """Applies the gradients of the last backward and forgets them. Collective when partitioned."""
        self.dense.step()
        self.dense.zero_grad()
        gradient = self.model.entity.take_gradient()
        with torch.no_grad():
            self._update_rows(gradient)
        self.model.project(self._changed_rows(gradient))

    @abstractmethod
    def _dense_optimizer(self) -> torch.optim.Optimizer: ...

    @abstractmethod
    def _new_row_state(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _update_rows(self, gradient: RowGradient) -> None: ...

    def _changed_rows(self, gradient: RowGradient) -> Tensor | None:
        """Rows of the block that an update changed; None for all."""
        return gradient.row

    def dense_state(self) -> dict[str, Tensor]:
        """The dense optimiser's state as plain tensors, by "parameter number.name"."""
        state = self.dense.state_dict()["state"]
        return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}

    def load_dense_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `dense_state` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.dense.load_state_dict({"state": state, "param_groups": self.dense.state_dict()["param_groups"]})

    def _zeros_like_rows(self) -> Float[Tensor, "L D"]:
        return torch.zeros_like(self.model.entity.weight, requires_grad=False)


class DenseAdam(ModelOptimizer):
    """Adam (Kingma and Ba, ICLR 2015) over the whole table at every step, as in KBGAN.

    A row that a step did not touch moves on by its momentum. Costs the whole table a step: for small graphs.

    Args:
        weight_decay: L2 weight, added to the gradient (KBGAN's lambda).
    """

    def __init__(
        self, model: KGEModel, *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        self.options = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
        _check_adam(beta1, beta2, weight_decay)
        super().__init__(model, lr, eps)

    def _dense_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.scorer.parameters(), **self.options)

    def _new_row_state(self) -> dict[str, Tensor]:
        weight = self.model.entity.weight
        self._rows = torch.optim.Adam([weight], fused=True, **self.options)
        weight.grad = self._zeros_like_rows()
        # Adam makes its state at the first step; made here, it can be saved and loaded at any time.
        state = {"step": torch.zeros((), dtype=torch.float32, device=weight.device)}
        state |= {"exp_avg": self._zeros_like_rows(), "exp_avg_sq": self._zeros_like_rows()}
        self._rows.state[weight] = state
        return {name: state[name] for name in ("exp_avg", "exp_avg_sq")}

    def _update_rows(self, gradient: RowGradient) -> None:
        grad = self.model.entity.weight.grad
        assert grad is not None
        grad.zero_().index_copy_(0, gradient.row, gradient.value.to(grad.dtype))
        self._rows.step()

    def _changed_rows(self, gradient: RowGradient) -> None:
        return None

    def dense_state(self) -> dict[str, Tensor]:
        """With the rows' step count, the same for all rows."""
        return super().dense_state() | {"rows.step": self._rows.state[self.model.entity.weight]["step"]}

    def load_dense_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `dense_state` gave."""
        self._rows.state[self.model.entity.weight]["step"].copy_(tensors["rows.step"])
        super().load_dense_state({key: value for key, value in tensors.items() if key != "rows.step"})


class LazyAdam(ModelOptimizer):
    """Adam that updates only the rows a step touched, moments included; bias correction by the number of steps."""

    def __init__(self, model: KGEModel, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
        _check_adam(beta1, beta2, 0.0)
        self.betas = (beta1, beta2)
        super().__init__(model, lr, eps)
        self.steps = torch.zeros((), dtype=torch.int64)

    def _dense_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.scorer.parameters(), lr=self.lr, betas=self.betas, eps=self.eps)

    def _new_row_state(self) -> dict[str, Tensor]:
        return {"exp_avg": self._zeros_like_rows(), "exp_avg_sq": self._zeros_like_rows()}

    def _update_rows(self, gradient: RowGradient) -> None:
        self.steps += 1
        (beta1, beta2), step = self.betas, int(self.steps)
        weight, row = self.model.entity.weight, gradient.row
        value = gradient.value.to(weight.dtype)
        mean = self.row_state["exp_avg"][row].lerp_(value, 1 - beta1)
        square = self.row_state["exp_avg_sq"][row].mul_(beta2).addcmul_(value, value, value=1 - beta2)
        self.row_state["exp_avg"][row] = mean
        self.row_state["exp_avg_sq"][row] = square
        size = self.lr / (1 - beta1**step)
        weight.index_add_(0, row, mean / (square.sqrt() / (1 - beta2**step) ** 0.5 + self.eps), alpha=-size)

    def dense_state(self) -> dict[str, Tensor]:
        """With the number of steps."""
        return super().dense_state() | {"rows.step": self.steps}

    def load_dense_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `dense_state` gave."""
        self.steps.copy_(tensors["rows.step"])
        super().load_dense_state({key: value for key, value in tensors.items() if key != "rows.step"})


class RowwiseAdagrad(ModelOptimizer):
    """Adagrad with one number of state a row: the running sum of the row gradient's mean square (PBG, DGL-KE)."""

    def __init__(self, model: KGEModel, *, lr: float, eps: float) -> None:
        super().__init__(model, lr, eps)

    def _dense_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(self.model.scorer.parameters(), lr=self.lr, eps=self.eps)

    def _new_row_state(self) -> dict[str, Tensor]:
        weight = self.model.entity.weight
        return {"square_sum": torch.zeros(len(weight), 1, dtype=weight.dtype, device=weight.device)}

    def _update_rows(self, gradient: RowGradient) -> None:
        weight, row = self.model.entity.weight, gradient.row
        square = gradient.value.square().mean(1, keepdim=True).to(weight.dtype)
        total = self.row_state["square_sum"].index_add_(0, row, square)[row]
        weight.index_add_(0, row, gradient.value.to(weight.dtype) / (total.sqrt() + self.eps), alpha=-self.lr)


def _check_adam(beta1: float, beta2: float, weight_decay: float) -> None:
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise InputError(f"optimizer.{name} must be in [0, 1), got {value}")
    if weight_decay < 0:
        raise InputError(f"optimizer.weight_decay must be at least 0, got {weight_decay}")
