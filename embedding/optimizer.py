"""Optimisers of a model: dense parameters through torch.optim, entity rows at their owner, once a step.

All of them are synchronous: the gradient of a row is the sum over the global batch, so the update is the same on one
rank and on many.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from embedding.model import KGEModel
from embedding.table import RowGradient
from graph.errors import InputError
from kernels.updates import adam, rowwise_adagrad


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
        self.model.relation_ball.clip_(self.model.scorer.relation.detach())
        self._update_rows(self.model.entity.take_gradient())

    @abstractmethod
    def _dense_optimizer(self) -> torch.optim.Optimizer: ...

    @abstractmethod
    def _new_row_state(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _update_rows(self, gradient: RowGradient) -> None:
        """Moves rows of the block, and keeps what it moved in `model.entity_ball`."""

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


class _RowAdam(ModelOptimizer):
    """Adam (Kingma and Ba, ICLR 2015) with two rows of state a row, and one count of steps for all."""

    def __init__(
        self, model: KGEModel, *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= value < 1:
                raise InputError(f"optimizer.{name} must be in [0, 1), got {value}")
        if weight_decay < 0:
            raise InputError(f"optimizer.weight_decay must be at least 0, got {weight_decay}")
        self.betas = (beta1, beta2)
        self.weight_decay = weight_decay
        self.steps = torch.zeros((), dtype=torch.int64)
        super().__init__(model, lr, eps)

    def _dense_optimizer(self) -> torch.optim.Optimizer:
        options = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        return torch.optim.Adam(self.model.scorer.parameters(), fused=True, **options)

    def _new_row_state(self) -> dict[str, Tensor]:
        return {name: torch.zeros_like(self.model.entity.weight) for name in ("exp_avg", "exp_avg_sq")}

    def _move(self, gradient: RowGradient, *, everywhere: bool) -> None:
        self.steps += 1
        adam(
            self.model.entity.weight,
            self.row_state["exp_avg"],
            self.row_state["exp_avg_sq"],
            gradient.row,
            gradient.value,
            everywhere=everywhere,
            step=int(self.steps),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            ball=self.model.entity_ball,
        )

    def dense_state(self) -> dict[str, Tensor]:
        """With the number of steps."""
        return super().dense_state() | {"rows.step": self.steps}

    def load_dense_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `dense_state` gave."""
        self.steps.copy_(tensors["rows.step"])
        super().load_dense_state({key: value for key, value in tensors.items() if key != "rows.step"})


class DenseAdam(_RowAdam):
    """Adam over the whole table at every step, as in KBGAN.

    A row that a step did not touch moves on by its momentum. Costs the whole table a step: for small graphs.

    Args:
        weight_decay: L2 weight, added to the gradient (KBGAN's lambda).
    """

    def _update_rows(self, gradient: RowGradient) -> None:
        self._move(gradient, everywhere=True)


class LazyAdam(_RowAdam):
    """Adam that updates only the rows a step touched, moments included; bias correction by the number of steps."""

    def __init__(self, model: KGEModel, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
        super().__init__(model, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=0.0)

    def _update_rows(self, gradient: RowGradient) -> None:
        self._move(gradient, everywhere=False)


class RowwiseAdagrad(ModelOptimizer):
    """Adagrad with one number of state a row: the running sum of the row gradient's mean square (PBG, DGL-KE)."""

    def __init__(self, model: KGEModel, *, lr: float, eps: float) -> None:
        super().__init__(model, lr, eps)

    def _dense_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(self.model.scorer.parameters(), lr=self.lr, eps=self.eps, fused=True)

    def _new_row_state(self) -> dict[str, Tensor]:
        return {"square_sum": torch.zeros_like(self.model.entity.weight[:, :1])}

    def _update_rows(self, gradient: RowGradient) -> None:
        weight, square_sum = self.model.entity.weight, self.row_state["square_sum"]
        options = {"lr": self.lr, "eps": self.eps, "ball": self.model.entity_ball}
        rowwise_adagrad(weight, square_sum, gradient.row, gradient.value, **options)
