"""Which rows of a table occur among given places, and where each of them does."""

import torch
from jaxtyping import Int64
from torch import Tensor

from kernels.library import call, usable
from kernels.shapes import expect_int32


def group_rows(
    place: Int64[Tensor, " K"], num_rows: int
) -> tuple[Int64[Tensor, " R"], Tensor, Int64[Tensor, " R_plus_1"]]:
    """The distinct rows, ascending; the occurrences sorted by row; where those of each row begin, then the last end.

    Raises:
        IndexError: a place is not in [0, num_rows).
        OverflowError: there are more occurrences than int32 can number.
    """
    expect_int32("occurrences of rows", len(place))
    order = torch.empty(len(place), dtype=torch.int32)
    row, begin = torch.empty((2, len(place) + 1), dtype=torch.int64)
    distinct = call("group_rows", place.contiguous(), len(place), num_rows, order, row, begin)
    if distinct < 0:
        wrong = -1 - distinct
        raise IndexError(f"place {wrong} is row {int(place[wrong])}: there are rows 0 to {num_rows - 1}")
    return row[:distinct], order, begin[: distinct + 1]


def distinct_rows(place: Int64[Tensor, " K"], num_rows: int) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " K"]]:
    """The distinct rows in `place`, ascending, and for each place the position of its row among them."""
    if not usable(place):
        return torch.unique(place, return_inverse=True)
    row, order, begin = group_rows(place, num_rows)
    number = torch.empty_like(place)
    call("number_rows", order, begin, len(row), number)
    return row, number
