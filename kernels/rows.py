"""Gradients of table rows: their sources, and their sums at each row in float64 (rows.h, rows.cpp)."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from kernels.gathered import distinct_sums, reached_in_slots, sort_places, sums_in_slots, whole_sums
from kernels.gpu.available import is_on_gpu
from kernels.library import address, call, type_name, usable
from kernels.pairs import Comparison
from kernels.shapes import expect_int32, expect_shape, per_chunk


@dataclass(frozen=True)
class GatheredGradient:
    """The gradient of rows that were copied from the table: one row of numbers for each occurrence."""

    place: Int64[Tensor, " K"]
    """The row of each occurrence."""
    value: Float[Tensor, "K E"]

    def words(self, dtype: torch.dtype, width: int) -> list[int]:
        """`Source` of rows.h; an error if these are not gradients of rows of this type and width."""
        expect_shape("the gradient of copied rows", self.value, len(self.place), width)
        return [len(self.place), -1, address(self.value, dtype, "the gradient of copied rows"), 0, 0, 0, 0, 0, 0]


@dataclass(frozen=True)
class PairGradient:
    """Keeps query, score and upstream gradient; the row gradient is computed while rows are summed and never stored."""

    place: Int64[Tensor, "C N"]
    kind: Comparison
    coefficient: Float[Tensor, "B N"]
    """The gradient by each score."""
    score: Float[Tensor, "B N"]
    query: Float[Tensor, "B E"]

    def words(self, dtype: torch.dtype, width: int) -> list[int]:
        """`Source` of rows.h; an error if these are not gradients of rows of this type and width."""
        (chunks, candidates), queries = self.place.shape, len(self.query)
        expect_shape("query", self.query, queries, width)
        expect_shape("coefficient", self.coefficient, queries, candidates)
        expect_shape("score", self.score, queries, candidates)
        named = {"coefficient": self.coefficient, "score": self.score, "query": self.query}
        addresses = [address(each, dtype, name) for name, each in named.items()]
        inverse = struct.unpack("q", struct.pack("d", 1 / max(candidates, 1)))[0]
        sizes = [per_chunk(queries, chunks), candidates, inverse]
        return [self.place.numel(), self.kind.number, 0, *addresses, *sizes]


RowGradientSource = GatheredGradient | PairGradient
Parts = Sequence[tuple[Int64[Tensor, " _"], Float[Tensor, "_ E"]]]
"""Places and their values, in one part or more; places may repeat."""


@dataclass(frozen=True)
class Unsummed:
    """Sources grouped by row, for a kernel that sums the gradient of a row when it updates the row."""

    sources: list[RowGradientSource]
    rows: Float[Tensor, "U E"]
    order: Tensor
    begin: Int64[Tensor, " K_plus_1"]

    version: int
    """The rows' version counter (changes in place) when the gradient was made."""

    def words(self) -> Int64[Tensor, "S _"]:
        """The sources as an array of `Source` of rows.h.

        Raises:
            RuntimeError: the rows have changed since the gradient was made.
        """
        if self.rows._version != self.version:
            raise RuntimeError("the rows have changed since their gradient was made: it can't be summed any more")
        return _words(self.sources, self.rows)


@dataclass(frozen=True)
class Occurrences:
    """Gradients of rows on a GPU, one for each occurrence, for an optimiser that sums them."""

    place: Int64[Tensor, " K"]
    value: Float[Tensor, "K D"]
    num_rows: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Whole:
    """Summed gradients of all rows of a table on a GPU, some of which may have got none."""

    value: Float[Tensor, "L D"]
    reached: Bool[Tensor, " L"]
    """Whether a row got a gradient, which may be 0."""


class RowGradient:
    """The gradient of the table rows that have one. It is summed only when `row`, `value` or an optimiser needs it.

    Sums are computed in float64 and rounded to the rows' type.

    On a GPU the host does not wait to know how many rows there are. So `row` is as long as it could be: what is left
    over repeats the last row, with a gradient of 0. Whoever moves rows must not move that one again.
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
        """`row` is None for a gradient of every row of the table, for `occurrences` and for `whole`."""
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
            return cls.of_parts([_occurrences(sources, rows)], len(rows), rows.dtype)
        row, order, begin = group_rows(_places(sources), len(rows))
        return cls(row, None, Unsummed(sources, rows, order, begin, rows._version))

    @classmethod
    def of_parts(cls, parts: Parts, num_rows: int, dtype: torch.dtype, *, padded: bool = False) -> "RowGradient":
        """The sum of the values of each place, of a table with `num_rows` rows of type `dtype`.

        Args:
            padded: some places may be -1, of no row; their values are 0.
        """
        if padded:
            return cls._without_padding(*_joined(parts), num_rows, dtype)
        if is_on_gpu(parts[0][1]):
            return cls(None, None, None, Occurrences(*_joined(parts), num_rows, dtype))
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
            _call_sum(of.words(), of.rows, of.rows, row, of.order, of.begin, self._value)
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
        return sums(*_occurrences(sources, rows), len(rows), dtype)
    row, order, begin = group_rows(_places(sources), len(rows))
    out = (room or _new)((len(row), rows.shape[1]), dtype, rows.device)
    _call_sum(_words(sources, rows), rows, rows, row, order, begin, out)
    return row, out


def _new(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def _places(sources: list[RowGradientSource]) -> Int64[Tensor, " K"]:
    expect_int32("occurrences of rows", sum(source.place.numel() for source in sources))
    flat = [source.place.flatten() for source in sources]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


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
        return distinct_sums(*_joined(parts), num_rows, dtype)
    # The values are not put together: they are the largest tensors of a step.
    sources: list[RowGradientSource] = [GatheredGradient(place, value.contiguous()) for place, value in parts]
    value = parts[0][1]
    row, order, begin = group_rows(_places(sources), num_rows)
    out = value.new_empty((len(row), value.shape[1]), dtype=dtype)
    _call_sum(_words(sources, value), value, None, row, order, begin, out)
    return row, out


def whole_sum(sources: list[RowGradientSource], rows: Float[Tensor, "U E"], dtype: torch.dtype) -> Float[Tensor, "U E"]:
    """What `sum_rows` gives, as a tensor of all rows: zeros where there is no gradient."""
    if sources and not usable(rows):
        return whole_sums(*_occurrences(sources, rows), len(rows), dtype)
    row, value = sum_rows(sources, rows, dtype)
    if len(row) == len(rows):
        return value
    return torch.zeros_like(rows, dtype=dtype).index_copy_(0, row, value)


def reached_rows(sources: list[RowGradientSource], num_rows: int, device: torch.device) -> Bool[Tensor, " U"]:
    """Whether each row occurs in the sources, whose gradient may be 0."""
    reached = torch.zeros(num_rows, dtype=torch.bool, device=device)
    return reached.index_fill_(0, _places(sources), True) if sources else reached


def whole_sum_of_occurrences(
    place: Int64[Tensor, " K"], value: Float[Tensor, "K E"], num_rows: int
) -> Float64[Tensor, "U E"]:
    """What `sum_occurrences` gives in float64, as a tensor of all rows: zeros where nothing occurs."""
    if not usable(value):
        return whole_sums(place, value, num_rows, torch.float64, few=True)
    row, total = sum_occurrences(place, value, num_rows, torch.float64)
    return total.new_zeros((num_rows, total.shape[1])).index_copy_(0, row, total)


def _joined(parts: Parts) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    if len(parts) == 1:
        return parts[0]
    place, value = zip(*parts, strict=True)
    return torch.cat(place), torch.cat(value)


def _words(sources: list[RowGradientSource], rows: Float[Tensor, "_ E"]) -> Int64[Tensor, "S _"]:
    """An array of `Source` of rows.h; errors if the sources are not of rows of this type and width."""
    return torch.tensor([source.words(rows.dtype, rows.shape[1]) for source in sources], dtype=torch.int64)


def _call_sum(
    words: Tensor, like: Tensor, rows: Tensor | None, row: Tensor, order: Tensor, begin: Tensor, out: Tensor
) -> None:
    name = f"sum_rows_{type_name(like)}_{type_name(out)}"
    call(name, words, rows, row, order, begin, len(row), out.shape[1], out, torch.get_num_threads())


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


def _occurrences(
    sources: list[RowGradientSource], rows: Float[Tensor, "U E"]
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    """The places of all sources, and the gradient of each occurrence; those of one source are not copied."""
    if len(sources) == 1:
        return _places(sources), _gathered(sources[0], rows)
    return _places(sources), torch.cat([_gathered(source, rows) for source in sources])


def _gathered(source: RowGradientSource, rows: Float[Tensor, "U E"]) -> Float[Tensor, "K E"]:
    """The gradient of each occurrence, where no kernel of the CPU makes it while it sums."""
    if isinstance(source, GatheredGradient):
        return source.value
    # Only kernels make a PairGradient, so this one was made on a GPU.
    import kernels.gpu.pairs as gpu

    made = gpu.candidate_gradient(source.kind, source.query, rows, source.place, source.coefficient, source.score)
    return made.flatten(0, 1)
