"""Gradients of table rows: what gave them, and their sum at each row in float64 (rows.h, rows.cpp)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.library import call, type_name, usable, word
from kernels.pairs import Comparison


@dataclass(frozen=True)
class GatheredGradient:
    """Of rows that were copied out: a gradient for each occurrence."""

    place: Int64[Tensor, " K"]
    """Which row each occurrence is."""
    value: Float[Tensor, "K E"]

    def words(self) -> list[int]:
        """`Source` of rows.h."""
        return [len(self.place), -1, self.value.data_ptr(), 0, 0, 0, 0, 0, 0]


@dataclass(frozen=True)
class PairGradient:
    """Of rows that were compared where they lie; made up when they are summed, so that it is never written out."""

    place: Int64[Tensor, "C N"]
    kind: Comparison
    coefficient: Float[Tensor, "B N"]
    """The gradient by each score."""
    score: Float[Tensor, "B N"]
    query: Float[Tensor, "B E"]

    def words(self) -> list[int]:
        """`Source` of rows.h."""
        chunks, candidates = self.place.shape
        pointers = [each.data_ptr() for each in (self.coefficient, self.score, self.query)]
        sizes = [len(self.query) // max(chunks, 1), candidates, word(1 / max(candidates, 1))]
        return [self.place.numel(), self.kind.number, 0, *pointers, *sizes]


RowGradientSource = GatheredGradient | PairGradient


@dataclass(frozen=True)
class Unsummed:
    """Sources grouped by row, for a kernel that sums a row when it gets there."""

    sources: list[RowGradientSource]
    rows: Float[Tensor, "U E"]
    order: Tensor
    begin: Int64[Tensor, " K_plus_1"]

    def words(self) -> Int64[Tensor, "S _"]:
        """The sources as rows.h takes them."""
        return torch.tensor([source.words() for source in self.sources], dtype=torch.int64)


class RowGradient:
    """The gradient of those rows of a table that have one: summed, or to be summed where it is used.

    Sums are made in float64 and rounded to the rows' type.
    """

    def __init__(
        self, row: Int64[Tensor, " K"], value: Float[Tensor, "K D"] | None, unsummed: Unsummed | None = None
    ) -> None:
        self.row = row
        """Distinct rows, ascending."""
        self.unsummed = unsummed
        self._value = value

    @classmethod
    def of(cls, sources: list[RowGradientSource], rows: Float[Tensor, "U E"]) -> "RowGradient":
        """What sources of these rows add up to."""
        if not sources or not usable(rows):
            return cls(*sum_rows(sources, rows, rows.dtype))
        row, order, begin = group_rows(_places(sources), len(rows))
        return cls(row, None, Unsummed(sources, rows, order, begin))

    @property
    def value(self) -> Float[Tensor, "K D"]:
        """The sum at each row."""
        if self._value is None:
            assert self.unsummed is not None
            of = self.unsummed
            self._value = of.rows.new_empty((len(self.row), of.rows.shape[1]))
            _call_sum(of.sources, of.rows, self.row, of.order, of.begin, self._value)
        return self._value


def sum_rows(
    sources: list[RowGradientSource], rows: Float[Tensor, "U E"], dtype: torch.dtype
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    """The distinct rows that have a gradient, ascending, and its sum, made in float64 and rounded to `dtype`."""
    if not sources:
        return rows.new_empty(0, dtype=torch.int64), rows.new_empty((0, rows.shape[1]), dtype=dtype)
    if not usable(rows):
        return _sum_rows_plain(_places(sources), sources, dtype)
    row, order, begin = group_rows(_places(sources), len(rows))
    out = rows.new_empty((len(row), rows.shape[1]), dtype=dtype)
    _call_sum(sources, rows, row, order, begin, out)
    return row, out


def _places(sources: list[RowGradientSource]) -> Int64[Tensor, " K"]:
    return torch.cat([source.place.flatten() for source in sources])


def sum_occurrences(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int, dtype: torch.dtype
) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    """The distinct places below `num_rows`, ascending, and the sum of each one's values, as `sum_rows` makes it."""
    sources: list[RowGradientSource] = [GatheredGradient(place, value.contiguous())]
    if not usable(value):
        return _sum_rows_plain(place, sources, dtype)
    row, order, begin = group_rows(place, num_rows)
    out = value.new_empty((len(row), value.shape[1]), dtype=dtype)
    _call_sum(sources, None, row, order, begin, out)
    return row, out


def _call_sum(
    sources: list[RowGradientSource], rows: Tensor | None, row: Tensor, order: Tensor, begin: Tensor, out: Tensor
) -> None:
    numbers = next(each.value if isinstance(each, GatheredGradient) else each.query for each in sources)
    words = torch.tensor([source.words() for source in sources], dtype=torch.int64)
    name = f"sum_rows_{type_name(numbers)}_{type_name(out)}"
    call(name, words, rows, row, order, begin, len(row), out.shape[1], out, torch.get_num_threads())


def group_rows(
    place: Int64[Tensor, " K"], num_rows: int
) -> tuple[Int64[Tensor, " R"], Tensor, Int64[Tensor, " R_plus_1"]]:
    """The distinct rows, the occurrences in their order, and where each row's begin and end."""
    order = torch.empty(len(place), dtype=torch.int32)
    row, begin = torch.empty((2, len(place) + 1), dtype=torch.int64)
    distinct = call("group_rows", place.contiguous(), len(place), num_rows, order, row, begin)
    return row[:distinct], order, begin[: distinct + 1]


def distinct_rows(place: Int64[Tensor, " K"], num_rows: int) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " K"]]:
    """The distinct rows, all below `num_rows`, ascending, and which of them each place is."""
    if not usable(place):
        return torch.unique(place, return_inverse=True)
    row, order, begin = group_rows(place, num_rows)
    number = torch.empty_like(place)
    call("number_rows", order, begin, len(row), number)
    return row, number


def _sum_rows_plain(
    place: Int64[Tensor, " K"], sources: list[RowGradientSource], dtype: torch.dtype
) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R E"]]:
    # Pairs are compared in place by kernels alone, so here all rows were gathered.
    value = torch.cat([source.value for source in sources if isinstance(source, GatheredGradient)])
    row, index = torch.unique(place, return_inverse=True)
    total = torch.zeros((len(row), value.shape[1]), dtype=torch.float64, device=value.device)
    return row, total.index_add_(0, index, value.double()).to(dtype)
