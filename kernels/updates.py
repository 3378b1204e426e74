"""Updates of table rows in place, a row at a time (updates.cpp)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call, type_name, usable
from kernels.rows import RowGradient
from kernels.shapes import expect_shape


@dataclass(frozen=True)
class Ball:
    """Scales each part of a row to an L2 norm of at most `max_norm`; None: no limit."""

    widths: tuple[int, ...]
    """The widths of the parts, in order."""
    max_norm: float | None

    def clip_(self, rows: Float[Tensor, "K W"]) -> None:
        """Scales the rows in place."""
        if self.max_norm is None:
            return
        if usable(rows):
            sizes = *rows.shape, *self.bounds(rows.shape[1])
            call(f"clip_rows_{type_name(rows)}", rows, *sizes, torch.get_num_threads())
            return
        for part in rows.split(list(self.widths), dim=1):
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
            part.mul_(self.max_norm / norm.clamp(min=self.max_norm))

    def bounds(self, width: int) -> tuple[Tensor | None, int, float]:
        """The arguments for updates.cpp; raises ValueError unless the widths of the parts add up to `width`."""
        if self.max_norm is None:
            return None, 0, 0.0
        if sum(self.widths) != width:
            raise ValueError(f"parts of widths {self.widths} do not make rows of width {width}")
        return torch.tensor(self.widths), len(self.widths), float(self.max_norm)


def rowwise_adagrad(
    weight: Float[Tensor, "L D"],
    square_sum: Float[Tensor, "L 1"],
    gradient: RowGradient,
    *,
    lr: float,
    eps: float,
    ball: Ball,
) -> None:
    """Adagrad on the gradient's rows, with one number of state each: the running sum of the gradient's mean square."""
    if usable(weight):
        expect_shape("square_sum", square_sum, len(weight), 1)
        options = float(lr), float(eps), *ball.bounds(weight.shape[1]), torch.get_num_threads()
        call(
            f"rowwise_adagrad_{type_name(weight)}",
            weight,
            square_sum,
            *_words(gradient, weight),
            weight.shape[1],
            *options,
        )
        return
    row, value = gradient.row, gradient.value
    if usable_on_gpu(weight, value):
        import kernels.gpu.updates as gpu

        limit = {"widths": ball.widths, "max_norm": ball.max_norm}
        gpu.rowwise_adagrad(weight, square_sum, row, value, lr=lr, eps=eps, **limit)
        return
    square = value.double().square().mean(1, keepdim=True).to(weight.dtype)
    total = square_sum.index_add_(0, row, square)[row]
    _replace(weight, row, weight[row] - lr * value / (total.sqrt() + eps), ball)


def adagrad(
    weight: Float[Tensor, "K W"],
    square_sum: Float[Tensor, "K W"],
    gradient: Float[Tensor, "K W"],
    *,
    lr: float,
    eps: float,
) -> None:
    """Adagrad with one number of state for each number of `weight`. Changes weight and state in place."""
    if usable(weight):
        for each in (square_sum, gradient):
            expect_shape("gradient and state", each, *weight.shape)
        numbers = weight, square_sum, gradient.contiguous(), weight.numel(), float(lr), float(eps)
        call(f"adagrad_{type_name(weight)}", *numbers, torch.get_num_threads())
        return
    total = square_sum.addcmul_(gradient, gradient)
    weight.addcdiv_(gradient, total.sqrt().add_(eps), value=-lr)


def adam(
    weight: Float[Tensor, "L D"],
    mean: Float[Tensor, "L D"],
    square: Float[Tensor, "L D"],
    gradient: RowGradient,
    *,
    everywhere: bool,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    ball: Ball,
) -> None:
    """Adam on the rows that have a gradient, or with `everywhere` on all rows (gradient 0 for the others). In place.

    Args:
        step: the number of this update, from 1, for the bias corrections.
        weight_decay: L2 weight, added to the gradient.
    """
    rate, root = lr / (1 - betas[0] ** step), (1 - betas[1] ** step) ** 0.5
    if usable(weight):
        for each in (mean, square):
            expect_shape("mean and square", each, *weight.shape)
        sizes = weight.shape[1], len(weight) if everywhere else 0
        numbers = float(betas[0]), float(betas[1]), float(rate), float(root), float(eps), float(weight_decay)
        options = *sizes, *numbers, *ball.bounds(weight.shape[1]), torch.get_num_threads()
        call(f"adam_{type_name(weight)}", weight, mean, square, *_words(gradient, weight), *options)
        return
    row, value = gradient.row, gradient.value
    if usable_on_gpu(weight, value):
        import kernels.gpu.updates as gpu

        limit = {"widths": ball.widths, "max_norm": ball.max_norm}
        factors = {"rate": rate, "root": root, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        gpu.adam(weight, mean, square, row, value, everywhere=everywhere, **factors, **limit)
        return
    if everywhere:
        value = torch.zeros_like(weight).index_copy_(0, row, value)
        row = torch.arange(len(weight), device=weight.device)
    value = value + weight_decay * weight[row]
    new_mean = mean[row].lerp_(value, 1 - betas[0])
    new_square = square[row].mul_(betas[1]).addcmul_(value, value, value=1 - betas[1])
    mean[row], square[row] = new_mean, new_square
    _replace(weight, row, weight[row] - rate * new_mean / (new_square.sqrt() / root + eps), ball)


def _words(gradient: RowGradient, weight: Float[Tensor, "L D"]) -> tuple[Tensor | int | None, ...]:
    """`Gradient` of updates.cpp; raises an error if rows or widths do not fit the table."""
    row, unsummed = gradient.row, gradient.unsummed
    if len(row) and not 0 <= int(row[0]) <= int(row[-1]) < len(weight):  # ascending
        raise IndexError(f"gradients of rows {int(row[0])} to {int(row[-1])} for a table of {len(weight)}")
    if unsummed is None:
        expect_shape("the rows' gradient", gradient.value, len(row), weight.shape[1])
        return row, len(row), gradient.value, None, None, None, None
    expect_shape("the rows that gradients are of", unsummed.rows, len(unsummed.rows), weight.shape[1])
    return row, len(row), None, unsummed.words(), unsummed.rows, unsummed.order, unsummed.begin


def _replace(weight: Float[Tensor, "L D"], row: Int64[Tensor, " K"], rows: Float[Tensor, "K D"], ball: Ball) -> None:
    ball.clip_(rows)
    weight[row] = rows
