"""The optimisers: Adam over all rows, Adam over the rows that have a gradient, and row-wise Adagrad."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer, State
from graph.errors import InputError
from kernels.row_gradient import RowGradient
from kernels.updates import Ball, adagrad, adam, adam_factors, rowwise_adagrad

_FREE = Ball((), None)
"""No limit of length: that of dense parameters."""


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
