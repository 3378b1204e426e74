"""Sums of the gradients of each row, in float64: by kernels of the CPU (rows.h, rows.cpp), or as gathered.py does."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kernels.gathered import distinct_sums, sums_in_slots, whole_sums
from kernels.gpu.available import is_on_gpu
from kernels.library import call, type_name, usable
from kernels.row_sources import GatheredGradient, RowGradientSource, gradient_by_occurrence, places_of, words_of
from kernels.rows import group_rows

Parts = Sequence[tuple[Int64[Tensor, " _"], Float[Tensor, "_ E"]]]
"""Places and their values, in one part or more; places may repeat."""


def sum_rows(
    sources: list[RowGradientSource],
    rows: Float[Tensor, "U E"],
    dtype: torch.dtype,
    room: Callable[[Sequence[int], torch.dtype, torch.device], Tensor] | None = None,
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    """The distinct rows with a gradient, ascending, and their sums, computed in float64 and rounded to `dtype`.

    On a GPU the last row may repeat, with sums of 0: see `RowGradient`.

    Args:
        room: makes the tensor of the sums from its shape, type and device; None: they are in new memory.
    """
    if not sources:
        return rows.new_empty(0, dtype=torch.int64), rows.new_empty((0, rows.shape[1]), dtype=dtype)
    if not usable(rows):
        sums = sums_in_slots if is_on_gpu(rows) else distinct_sums
        return sums(*gradient_by_occurrence(sources, rows), len(rows), dtype)
    row, order, begin = group_rows(places_of(sources), len(rows))
    out = (room or _new)((len(row), rows.shape[1]), dtype, rows.device)
    sum_grouped(words_of(sources, rows), rows, rows, row, order, begin, out)
    return row, out


def _new(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def whole_sum(sources: list[RowGradientSource], rows: Float[Tensor, "U E"], dtype: torch.dtype) -> Float[Tensor, "U E"]:
    """What `sum_rows` gives, as a tensor of all rows: zeros where there is no gradient."""
    if sources and not usable(rows):
        return whole_sums(*gradient_by_occurrence(sources, rows), len(rows), dtype)
    row, value = sum_rows(sources, rows, dtype)
    if len(row) == len(rows):
        return value
    return torch.zeros_like(rows, dtype=dtype).index_copy_(0, row, value)


def sum_occurrences(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    """The distinct places, ascending, and the sum of the values of each, in float64 rounded to `dtype`.

    The host waits for a GPU to count them; `RowGradient.of_parts` does not.
    """
    return sum_parts([(place, value)], num_rows, dtype)


def sum_parts(parts: Parts, num_rows: int, dtype: torch.dtype) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    """What `sum_occurrences` gives for all parts together, which are at least one."""
    if not usable(parts[0][1]):
        return distinct_sums(*joined(parts), num_rows, dtype)
    # The values are not put together: they are the largest tensors of a step.
    sources: list[RowGradientSource] = [GatheredGradient(place, value.contiguous()) for place, value in parts]
    value = parts[0][1]
    row, order, begin = group_rows(places_of(sources), num_rows)
    out = value.new_empty((len(row), value.shape[1]), dtype=dtype)
    sum_grouped(words_of(sources, value), value, None, row, order, begin, out)
    return row, out


def whole_sum_of_occurrences(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int
) -> Float64[Tensor, "U E"]:
    """What `sum_occurrences` gives in float64, as a tensor of all rows: zeros where nothing occurs."""
    if not usable(value):
        return whole_sums(place, value, num_rows, torch.float64, few=True)
    row, total = sum_occurrences(place, value, num_rows, torch.float64)
    return total.new_zeros((num_rows, total.shape[1])).index_copy_(0, row, total)


def joined(parts: Parts) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    """The places and values of all parts; those of a single part are not copied."""
    if len(parts) == 1:
        return parts[0]
    place, value = zip(*parts, strict=True)
    return torch.cat(place), torch.cat(value)


def sum_grouped(
    words: Tensor, like: Tensor, rows: Tensor | None, row: Tensor, order: Tensor, begin: Tensor, out: Tensor
) -> None:
    """Writes to `out` the sum of each row.

    Args:
        words: the sources, as `words_of` gives them.
        like: a tensor of the sources' type.
        rows: the table; None if all sources are gathered.
        row, order, begin: the sources' places, as `group_rows` gives them.
    """
    name = f"sum_rows_{type_name(like)}_{type_name(out)}"
    call(name, words, rows, row, order, begin, len(row), out.shape[1], out, torch.get_num_threads())
