"""Sums of gradients that were copied, one row of numbers for each occurrence, where the CPU's kernels can't be used."""

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from kernels.gpu.available import is_on_gpu, usable_on_gpu

_MOST_LOOKED_AT = 1 << 22
"""Places that a GPU looks at, over all rows, in less time than some ten kernels take to start, which sort them."""


def distinct_sums(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    """The distinct places, ascending, and the sum of the values of each. The host waits for a GPU to count them."""
    if is_on_gpu(value):
        row, total = sums_in_slots(place, value, num_rows, dtype)
        distinct = int(torch.unique_consecutive(row).shape[0])
        return row[:distinct], total[:distinct]
    row, index = torch.unique(place, return_inverse=True)
    total = torch.zeros((len(row), value.shape[1]), dtype=torch.float64, device=value.device)
    return row, total.index_add_(0, index, value.double()).to(dtype)


def sums_in_slots(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> tuple[Int64[Tensor, " S"], Float[Tensor, "S E"]]:
    """The same in as many slots as there can be distinct places, so that nobody waits to know how many there are.

    The last place repeats in the slots that are left over, with sums of 0. Each sum has one order, so it is repeatable.

    Returns:
        S = min(K, num_rows) places, ascending, and their sums, in float64 rounded to `dtype`.
    """
    slots = min(len(place), num_rows)
    if not slots:
        return place[:0], value.new_empty((0, value.shape[1]), dtype=dtype)
    place, order = sort_places(place, num_rows)
    number = place.diff(prepend=place[:1]).ne(0).cumsum(0)  # of the distinct place that each occurrence has
    begin = torch.searchsorted(number, torch.arange(slots + 1, device=place.device))
    row = place.index_select(0, begin[:-1].clamp(max=len(place) - 1)).long()
    return row, _sums_of_segments(value, order, begin, dtype)


def reached_in_slots(
    value: Float[Tensor, "L E"], reached: Bool[Tensor, " L"]
) -> tuple[Int64[Tensor, " L"], Float[Tensor, "L E"]]:
    """The reached rows, ascending, and their values, in L slots: the last row repeats in the others, with zeros.

    Nobody waits to know how many rows are reached. If none is, all slots have row 0.
    """
    order = (~reached).to(torch.uint8).sort(stable=True).indices  # reached rows first, each kind ascending
    slot, count = torch.arange(len(reached), device=reached.device), reached.sum()
    row = order.index_select(0, torch.minimum(slot, (count - 1).clamp(min=0)))
    return row, torch.where((slot < count)[:, None], value.index_select(0, row), 0.0)


def whole_sums(
    place: Int64[Tensor, " K"],
    value: Float[Tensor, "K E"],
    num_rows: int,
    dtype: torch.dtype,
    *,
    few: bool = False,
) -> Float[Tensor, "U E"]:
    """The same sums as a tensor of all rows: zeros where nothing occurs. Nobody waits.

    Args:
        few: there may be so few rows that a GPU looks at all places for each row, instead of sorting them.
    """
    if usable_on_gpu(value):
        if few and num_rows * len(place) <= _MOST_LOOKED_AT:
            import kernels.gpu.rows as gpu

            return gpu.sums_of_few(place, value, num_rows, dtype)
        place, order = sort_places(place, num_rows)
        begin = torch.searchsorted(place, torch.arange(num_rows + 1, dtype=place.dtype, device=place.device))
        return _sums_of_segments(value, order, begin, dtype)
    total = torch.zeros((num_rows, value.shape[1]), dtype=torch.float64, device=value.device)
    return total.index_add_(0, place, value.double()).to(dtype)


def sort_places(place: Int64[Tensor, " K"], num_rows: int) -> tuple[Int[Tensor, " K"], Int64[Tensor, " K"]]:
    """The places in ascending order, and where each was; equal ones keep their order.

    A GPU sorts by a byte in each pass. A table has at most 2^31 rows, and that of a small graph has numbers of 16 bits.
    """
    small = num_rows <= torch.iinfo(torch.int16).max
    return place.to(torch.int16 if small else torch.int32).sort(stable=True)


def _sums_of_segments(
    value: Float[Tensor, "K E"], order: Int64[Tensor, " K"], begin: Int64[Tensor, " S_plus_1"], dtype: torch.dtype
) -> Float[Tensor, "S E"]:
    """The sum of the values order[begin[s]], ..., order[begin[s + 1] - 1] for each s."""
    if usable_on_gpu(value):
        import kernels.gpu.rows as gpu

        return gpu.sums_of_segments(value, order, begin, dtype)
    ordered = value.index_select(0, order).double()
    # index_add_ of CUDA adds in any order. `unsafe` leaves out a check that the host would wait for.
    total = torch.segment_reduce(ordered, "sum", offsets=begin, axis=0, unsafe=True, initial=0)
    return total.to(dtype)
