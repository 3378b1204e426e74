"""Updates of table rows in place, a row at a time (updates.cpp)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.library import call, type_name, usable


def rowwise_adagrad(
    weight: Float[Tensor, "L D"],
    square_sum: Float[Tensor, "L 1"],
    row: Int64[Tensor, " K"],
    gradient: Float[Tensor, "K D"],
    *,
    lr: float,
    eps: float,
) -> None:
    """Adagrad on these rows with one number of state each: the running sum of the gradient's mean square."""
    if usable(weight):
        name, sizes = f"rowwise_adagrad_{type_name(weight)}", gradient.shape
        call(name, weight, square_sum, row, gradient, *sizes, float(lr), float(eps), torch.get_num_threads())
        return
    square = gradient.double().square().mean(1, keepdim=True).to(weight.dtype)
    total = square_sum.index_add_(0, row, square)[row]
    weight.index_add_(0, row, gradient / (total.sqrt() + eps), alpha=-lr)


def adam(
    weight: Float[Tensor, "L D"],
    mean: Float[Tensor, "L D"],
    square: Float[Tensor, "L D"],
    row: Int64[Tensor, " K"],
    gradient: Float[Tensor, "K D"],
    *,
    everywhere: bool,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Adam on these rows, ascending; or everywhere, with a gradient of 0 for all other rows.

    Args:
        step: number of this update, from 1 on, for the bias corrections.
        weight_decay: L2 weight, added to the gradient.
    """
    rate, root = lr / (1 - betas[0] ** step), (1 - betas[1] ** step) ** 0.5
    if usable(weight):
        sizes = len(row), len(weight), everywhere, weight.shape[1]
        numbers = float(betas[0]), float(betas[1]), float(rate), float(root), float(eps), float(weight_decay)
        name, threads = f"adam_{type_name(weight)}", torch.get_num_threads()
        call(name, weight, mean, square, row, gradient, *sizes, *numbers, threads)
        return
    if everywhere:
        gradient = torch.zeros_like(weight).index_copy_(0, row, gradient)
        row = torch.arange(len(weight), device=weight.device)
    gradient = gradient + weight_decay * weight[row]
    new_mean = mean[row].lerp_(gradient, 1 - betas[0])
    new_square = square[row].mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    mean[row], square[row] = new_mean, new_square
    weight.index_add_(0, row, new_mean / (new_square.sqrt() / root + eps), alpha=-rate)


def clip_rows(
    weight: Float[Tensor, "L W"], row: Int64[Tensor, " K"] | None, parts: Mapping[str, int], max_norm: float
) -> None:
    """Scales each part of these rows, or of all, back to this L2 norm; `parts` are widths that sum to W."""
    if usable(weight):
        first, count = 0, len(weight) if row is None else len(row)
        for width in parts.values():
            bounds = weight.shape[1], first, first + width, float(max_norm)
            call(f"clip_rows_{type_name(weight)}", weight, row, count, *bounds, torch.get_num_threads())
            first += width
        return
    touched = weight if row is None else weight[row]
    for part in touched.split(list(parts.values()), dim=1):
        norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
        part.mul_(max_norm / norm.clamp(min=max_norm))
    if row is not None:
        weight[row] = touched
