"""RowGradient: the gradient of a table's rows. It is summed only when `row`, `value` or an optimiser needs the sums."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from kernels.gathered import reached_in_slots, sort_places, sums_in_slots, whole_sums
from kernels.gpu.available import is_on_gpu
from kernels.library import usable
from kernels.row_sources import RowGradientSource, gradient_by_occurrence, places_of, words_of
from kernels.row_sums import Parts, joined, sum_grouped, sum_parts, sum_rows
from kernels.rows import group_rows


@dataclass(frozen=True)
class Unsummed:
    """Sources grouped by row, for a kernel of the CPU that sums the gradient of a row when it updates the row."""

    sources: list[RowGradientSource]
    rows: Float[Tensor, "U E"]
    order: Tensor
    begin: Int64[Tensor, " K_plus_1"]

    version: int
    """The rows' version counter (changes in place) when the gradient was made."""

    def words(self) -> Int64[Tensor, "S _"]:
        """The sources, as `words_of` gives them.

        Raises:
            RuntimeError: the rows have changed since the gradient was made.
        """
        if self.rows._version != self.version:
            raise RuntimeError("the rows have changed since their gradient was made: it can't be summed any more")
        return words_of(self.sources, self.rows)


@dataclass(frozen=True)
class Occurrences:
    """Gradients of rows on a GPU, one for each occurrence, for an optimiser that sums them."""

    place: Int64[Tensor, " K"]
    value: Float[Tensor, "K D"]
    num_rows: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Whole:
    """Summed gradients on a GPU, as a tensor of all rows of a table; not all rows need have a gradient."""

    value: Float[Tensor, "L D"]
    reached: Bool[Tensor, " L"]
    """Whether a row has a gradient, which may be 0."""


class RowGradient:
    """The gradient of the table rows that have one. Sums are computed in float64 and rounded to the rows' type.

    On a GPU the host does not wait to know how many rows have a gradient. So `row` is as long as it could be: the
    places that are left over repeat the last row, with a gradient of 0. Code that moves rows must move it only once.
    """

    def __init__(
        self,
        row: Int64[Tensor, " K"] | None,
        value: Float[Tensor, "K D"] | None,
        unsummed: Unsummed | None = None,
        occurrences: Occurrences | None = None,
        whole: Whole | None = None,
        some: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Use `of`, `of_parts` or `of_whole`, or give `row` and `value`. `row` is None if all rows have a value."""
        self.unsummed = unsummed
        self.some = some
        """On a GPU: False if no row has a gradient, and `row` names one all the same; None: those in `row` have."""
        self._row = row
        self._value = value
        self._occurrences = occurrences
        self._whole = whole

    @classmethod
    def of(cls, sources: list[RowGradientSource], rows: Float[Tensor, "U E"]) -> "RowGradient":
        """The sum of the sources' gradients of these rows."""
        if not sources:
            return cls(*sum_rows([], rows, rows.dtype))
        if not usable(rows):
            return cls.of_parts([gradient_by_occurrence(sources, rows)], len(rows), rows.dtype)
        row, order, begin = group_rows(places_of(sources), len(rows))
        return cls(row, None, Unsummed(sources, rows, order, begin, rows._version))

    @classmethod
    def of_parts(cls, parts: Parts, num_rows: int, dtype: torch.dtype, *, padded: bool = False) -> "RowGradient":
        """The sum of the values of each place, of a table with `num_rows` rows of type `dtype`.

        Args:
            padded: some places may be -1, of no row; their values are 0.
        """
        if padded:
            return cls._without_padding(*joined(parts), num_rows, dtype)
        if is_on_gpu(parts[0][1]):
            return cls(None, None, None, Occurrences(*joined(parts), num_rows, dtype))
        return cls(*sum_parts(parts, num_rows, dtype))

    @classmethod
    def _without_padding(
        cls, place: Int64[Tensor, " K"], value: Float[Tensor, "K D"], num_rows: int, dtype: torch.dtype
    ) -> "RowGradient":
        if not is_on_gpu(value) or not num_rows:
            (kept,) = (place >= 0).nonzero(as_tuple=True)
            return cls.of_parts([(place[kept], value[kept])], num_rows, dtype)
        # The host does not wait for how much is padding: it becomes more of the last row, with a gradient of 0.
        last = place.max()
        row = torch.where(place < 0, last, place).clamp(min=0)
        return cls(None, None, occurrences=Occurrences(row, value, num_rows, dtype), some=last >= 0)

    @classmethod
    def of_whole(cls, value: Float[Tensor, "L D"], reached: Bool[Tensor, " L"]) -> "RowGradient":
        """The gradient of the reached rows, from summed gradients of all rows."""
        if is_on_gpu(value) and len(value):
            return cls(None, None, whole=Whole(value, reached), some=reached.any())
        (row,) = reached.nonzero(as_tuple=True)
        return cls(row, value.index_select(0, row))

    @property
    def row(self) -> Int64[Tensor, " K"]:
        """The rows, ascending and distinct; on a GPU the last may repeat."""
        if self._row is None and self._occurrences is not None:
            of = self._occurrences
            self._row, self._value = sums_in_slots(of.place, of.value, of.num_rows, of.dtype)
        if self._row is None and self._whole is not None:
            self._row, self._value = reached_in_slots(self._whole.value, self._whole.reached)
        if self._row is None:
            assert self._value is not None
            self._row = torch.arange(len(self._value), device=self._value.device)
        return self._row

    @property
    def value(self) -> Float[Tensor, "K D"]:
        """The summed gradient of each row in `row`; 0 where the last one repeats."""
        row = self.row
        if self._value is None:
            assert self.unsummed is not None
            of = self.unsummed
            self._value = of.rows.new_empty((len(row), of.rows.shape[1]))
            sum_grouped(of.words(), of.rows, of.rows, row, of.order, of.begin, self._value)
        return self._value

    def in_order(self) -> tuple[Int[Tensor, " K"], Int64[Tensor, " K"] | None, Float[Tensor, "K D"]]:
        """For a kernel that sums the gradient of a row when it moves the row.

        Returns:
            Rows, ascending, that may repeat; the number of the value at each place; and the values. The gradient of a
            row is the sum of those at its places. Or `row`, None and `value`, if they are already summed.
        """
        of = self._occurrences
        if of is None or self._row is not None:
            return self.row, None, self.value
        return *sort_places(of.place, of.num_rows), of.value

    def in_order_or_of_all(
        self, num_rows: int
    ) -> tuple[Int[Tensor, " K"] | None, Int64[Tensor, " K"] | None, Float[Tensor, "K D"]]:
        """The same for a kernel that moves every row; None, None and `of_all`, if there is nothing to sum."""
        of = self._occurrences
        if of is None or self._row is not None or not len(of.place):
            return None, None, self.of_all(num_rows)
        return self.in_order()

    def repeated(self) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K D"]]:
        """`row` and `value`, where a row that repeats has the same gradient each time, for code that writes all."""
        if not is_on_gpu(self.row):
            return self.row, self.value
        return self.row, self.value.index_select(0, torch.searchsorted(self.row, self.row))

    def of_all(self, num_rows: int) -> Float[Tensor, "U D"]:
        """The gradient as a tensor of all rows: zeros where there is none."""
        if self._occurrences is not None:
            return whole_sums(self._occurrences.place, self._occurrences.value, num_rows, self._occurrences.dtype)
        if self._whole is not None:
            return self._whole.value
        if self._row is None and self._value is not None:
            return self._value
        whole = self.value.new_zeros((num_rows, self.value.shape[1]))
        if is_on_gpu(whole):
            return whole.index_add_(0, self.row, self.value)
        return whole.index_copy_(0, self.row, self.value)
