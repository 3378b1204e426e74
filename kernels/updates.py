"""Updates of table rows in place, a row at a time (updates.cpp)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call, type_name, usable
from kernels.number import Number
from kernels.row_gradient import RowGradient
from kernels.shapes import expect_shape


@dataclass(frozen=True)
class Ball:
    """Scales each part of a row to an L2 norm of at most `max_norm`; None: no limit."""

    widths: tuple[int, ...]
    """The widths of the parts, in order."""
    max_norm: float | None

    def clip_(self, rows: Float[Tensor, "K W"], good: Bool[Tensor, ""] | None = None) -> None:
        """Scales the rows in place.

        Args:
            good: False: nothing is scaled; None: True.
        """
        if self.max_norm is None:
            return
        if usable(rows) and good is None:
            sizes = *rows.shape, *self.bounds(rows.shape[1])
            call(f"clip_rows_{type_name(rows)}", rows, *sizes, torch.get_num_threads())
            return
        if usable_on_gpu(rows):
            import kernels.gpu.updates as gpu

            if rows.shape[1] <= gpu.WIDEST:
                gpu.clip(rows, good, widths=self.widths, max_norm=self.max_norm)
                return
        for part in rows.split(list(self.widths), dim=1):
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
            factor = self.max_norm / norm.clamp(min=self.max_norm)
            part.mul_(factor if good is None else torch.where(good, factor, 1.0))

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
    lr: Number,
    eps: float,
    ball: Ball,
    good: Bool[Tensor, ""] | None = None,
) -> None:
    """Adagrad on the gradient's rows, with one number of state each: the running sum of the gradient's mean square.

    Args:
        good: False: weight and state stay as they are; None: True. On the CPU only plain torch knows it.
    """
    if usable(weight) and good is None:
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
    if usable_on_gpu(weight):
        import kernels.gpu.updates as gpu

        limit = {"widths": ball.widths, "max_norm": ball.max_norm}
        gpu.rowwise_adagrad(weight, square_sum, *gradient.in_order(), good, lr=lr, eps=eps, **limit)
        return
    row, value = gradient.repeated()
    own, own_sum = weight[row], square_sum[row]
    total = own_sum + value.double().square().mean(1, keepdim=True).to(weight.dtype)
    moved = _moved(own, value, total.sqrt().add_(eps), lr)
    ball.clip_(moved)
    _write(weight, row, moved, own, good)
    _write(square_sum, row, total, own_sum, good)


def adagrad(
    weight: Float[Tensor, "K W"],
    square_sum: Float[Tensor, "K W"],
    gradient: Float[Tensor, "K W"],
    *,
    lr: Number,
    eps: float,
    good: Bool[Tensor, ""] | None = None,
) -> None:
    """Adagrad with one number of state for each number of `weight`. Changes weight and state in place.

    Args:
        good: as in `rowwise_adagrad`.
    """
    if usable(weight) and good is None:
        for each in (square_sum, gradient):
            expect_shape("gradient and state", each, *weight.shape)
        numbers = weight, square_sum, gradient.contiguous(), weight.numel(), float(lr), float(eps)
        call(f"adagrad_{type_name(weight)}", *numbers, torch.get_num_threads())
        return
    if usable_on_gpu(weight):
        import kernels.gpu.updates as gpu

        gpu.adagrad(weight, square_sum, gradient, good, lr=lr, eps=eps)
        return
    if good is not None:
        gradient = torch.where(good, gradient, 0.0)  # which adds 0 to the state, and then to the weight
    total = square_sum.addcmul_(gradient, gradient)
    _moved(weight, gradient, total.sqrt().add_(eps), lr, out=weight)


def adam(
    weight: Float[Tensor, "L D"],
    mean: Float[Tensor, "L D"],
    square: Float[Tensor, "L D"],
    gradient: RowGradient,
    *,
    everywhere: bool,
    rate: Number,
    root: Number,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    ball: Ball,
    good: Bool[Tensor, ""] | None = None,
) -> None:
    """Adam on the rows that have a gradient, or with `everywhere` on all rows (gradient 0 for the others). In place.

    Args:
        rate, root: from `adam_factors`.
        weight_decay: L2 weight, added to the gradient.
        good: as in `rowwise_adagrad`.
    """
    if usable(weight) and good is None:
        for each in (mean, square):
            expect_shape("mean and square", each, *weight.shape)
        sizes = weight.shape[1], len(weight) if everywhere else 0
        numbers = float(betas[0]), float(betas[1]), float(rate), float(root), float(eps), float(weight_decay)
        options = *sizes, *numbers, *ball.bounds(weight.shape[1]), torch.get_num_threads()
        call(f"adam_{type_name(weight)}", weight, mean, square, *_words(gradient, weight), *options)
        return
    if usable_on_gpu(weight):
        import kernels.gpu.updates as gpu

        given = gradient.in_order_or_of_all(len(weight)) if everywhere else gradient.in_order()
        limit = {"widths": ball.widths, "max_norm": ball.max_norm}
        factors = {"rate": rate, "root": root, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        gpu.adam(weight, mean, square, *given, good, everywhere=everywhere, **factors, **limit)
        return
    row, value = (None, gradient.of_all(len(weight))) if everywhere else gradient.repeated()
    own, own_mean, own_square = (each if row is None else each[row] for each in (weight, mean, square))
    if weight_decay:
        value = value.add(own, alpha=weight_decay)
    new_mean = own_mean.lerp(value, 1 - betas[0])
    new_square = own_square.mul(betas[1]).addcmul_(value, value, value=1 - betas[1])
    moved = _moved(own, new_mean, new_square.sqrt().div_(root).add_(eps), rate)
    ball.clip_(moved)
    _write(mean, row, new_mean, own_mean, good)
    _write(square, row, new_square, own_square, good)
    _write(weight, row, moved, own, good)


def adam_factors(lr: float, betas: tuple[float, float], step: int) -> tuple[float, float]:
    """The rate of Adam's update number `step`, from 1, and what its roots are divided by, with the bias corrections."""
    return lr / (1 - betas[0] ** step), (1 - betas[1] ** step) ** 0.5


def _moved(
    own: Float[Tensor, "K D"],
    by: Float[Tensor, "K D"],
    over: Float[Tensor, "K #D"],
    rate: Number,
    *,
    out: Float[Tensor, "K D"] | None = None,
) -> Float[Tensor, "K D"]:
    """own - rate * by / over, with the same rounding on a CPU wherever the rate is."""
    if isinstance(rate, Tensor):
        return torch.sub(own, by * rate.to(own.dtype) / over, out=out)
    return torch.addcdiv(own, by, over, value=-rate, out=out)


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


def _write(
    tensor: Float[Tensor, "L W"],
    row: Int64[Tensor, " K"] | None,
    new: Float[Tensor, "K W"],
    own: Float[Tensor, "K W"],
    good: Bool[Tensor, ""] | None,
) -> None:
    """Writes new rows, or if `good` is False their own ones again; `row` is None for all rows."""
    if good is not None:
        new = torch.where(good, new, own)
    if row is None:
        tensor.copy_(new)
    else:
        tensor[row] = new
