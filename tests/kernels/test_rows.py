"""Sums of row gradients, against dense gradients of the same in float64."""

import pytest
import torch
from torch import Tensor

from kernels.pairs import Comparison, pair_scores
from kernels.row_sources import GatheredGradient, PairGradient, RowGradientSource
from kernels.row_sums import sum_occurrences, sum_rows
from kernels.rows import distinct_rows, group_rows
from tests.kernels.arrays import assert_close, both_types, every_width, integers, on_threads, randn
from tests.kernels.test_pairs import plain_scores, width_of

ROWS = 11

every_kind = pytest.mark.parametrize("kind", list(Comparison))


def gathered(width: int, dtype: torch.dtype, occurrences: int = 23, seed: int = 0) -> GatheredGradient:
    place = integers(ROWS - 2, occurrences, seed=seed)
    return GatheredGradient(place, randn(occurrences, width, dtype=dtype, seed=seed))


def pairs(kind: Comparison, rows: Tensor, shape: tuple[int, int, int], seed: int = 0) -> PairGradient:
    chunks, queries, candidates = shape
    query = randn(chunks * queries, rows.shape[1], dtype=rows.dtype, seed=seed + 1)
    place = integers(len(rows) - 2, chunks, candidates, seed=seed + 2)
    score = pair_scores(kind, query, rows, place)
    return PairGradient(place, kind, randn(*score.shape, dtype=rows.dtype, seed=seed + 3), score, query)


def plain_sum(sources: list[RowGradientSource], rows: Tensor) -> Tensor:
    """The gradient of all rows, in float64."""
    total = torch.zeros(rows.shape, dtype=torch.float64)
    for source in sources:
        if isinstance(source, GatheredGradient):
            total.index_add_(0, source.place, source.value.double())
        elif source.place.numel():
            variable = rows.double().requires_grad_()
            score = plain_scores(source.kind, source.query.double(), variable, source.place)
            total += torch.autograd.grad(score, variable, source.coefficient.double())[0]
    return total


def assert_sums(sources: list[RowGradientSource], rows: Tensor, dtype: torch.dtype) -> None:
    row, value = sum_rows(sources, rows, dtype)
    distinct = torch.cat([source.place.flatten() for source in sources]).unique()
    assert row.equal(distinct)
    assert value.dtype == dtype
    tolerance = 1e-12 if rows.dtype == torch.float64 == dtype else 3e-6
    assert_close(value, plain_sum(sources, rows)[distinct], tolerance)


@every_width
@both_types
@pytest.mark.parametrize("out", [torch.float64, torch.float32])
def test_copies_of_rows_are_summed(width: int, dtype: torch.dtype, out: torch.dtype):
    rows = randn(ROWS, width, dtype=dtype)
    for occurrences in (0, 1, 2, 23, 200):
        assert_sums([gathered(width, dtype, occurrences)], rows, out)


@every_kind
@every_width
@both_types
def test_pairs_are_summed(kind: Comparison, width: int, dtype: torch.dtype):
    rows = randn(ROWS, width_of(kind, width), dtype=dtype)
    for shape in [(0, 0, 5), (3, 1, 0), (1, 1, 1), (3, 1, 7), (2, 2, 4), (2, 5, 6), (1, 33, 131)]:
        for out in (torch.float64, torch.float32):
            assert_sums([pairs(kind, rows, shape)], rows, out)


@every_kind
@both_types
@pytest.mark.parametrize("width", [2, 14, 50])
def test_sources_of_every_sort_are_summed_together(kind: Comparison, dtype: torch.dtype, width: int):
    rows = randn(ROWS, width, dtype=dtype)
    nothing = GatheredGradient(torch.empty(0, dtype=torch.int64), rows.new_empty((0, width)))
    sources: list[RowGradientSource] = [
        nothing,
        gathered(width, dtype, 9, seed=1),
        pairs(kind, rows, (4, 1, 3), seed=10),
        nothing,
        pairs(Comparison.DOT, rows, (2, 3, 5), seed=20),
        gathered(width, dtype, 1, seed=2),
        pairs(kind, rows, (1, 6, 7), seed=30),
        nothing,
    ]
    for out in (torch.float64, torch.float32):
        assert_sums(sources, rows, out)
        assert_sums(sources[::-1], rows, out)


@pytest.mark.parametrize("out", [torch.float64, torch.float32])
def test_no_sources_are_no_rows(out: torch.dtype):
    row, value = sum_rows([], randn(ROWS, 3), out)
    assert (len(row), value.shape, value.dtype) == (0, (0, 3), out)


@pytest.mark.parametrize("width", [1, 8, 9, 16, 17, 50])
def test_sums_are_made_in_float64(width: int):
    large = torch.tensor([1e8, 1.0, -1e8])
    place, rows = torch.full((3,), 4), torch.zeros(ROWS, width)
    value = large[:, None].expand(3, width).contiguous()
    of_pairs = PairGradient(
        place[:, None], Comparison.DOT, large[:, None].contiguous(), torch.zeros(3, 1), torch.ones(3, width)
    )
    for found in (
        sum_rows([GatheredGradient(place, value)], rows, torch.float32),
        sum_rows([GatheredGradient(place[:1], value[i : i + 1]) for i in range(3)], rows, torch.float32),
        sum_rows([of_pairs], rows, torch.float32),
        sum_occurrences(place, value, ROWS, torch.float32),
    ):
        assert found[0].tolist() == [4]
        assert (found[1] == 1).all()


@every_kind
@both_types
def test_sums_do_not_depend_on_the_number_of_threads(kind: Comparison, dtype: torch.dtype):
    rows = randn(500, 50, dtype=dtype)
    sources: list[RowGradientSource] = [
        GatheredGradient(integers(500, 900), randn(900, 50, dtype=dtype)),
        pairs(kind, rows, (40, 1, 30)),
        pairs(kind, rows, (3, 9, 200)),
    ]
    one, two = (on_threads(number, sum_rows, sources, rows, torch.float64) for number in (1, 2))
    assert one[0].equal(two[0])
    assert one[1].equal(two[1])


@every_kind
@both_types
def test_a_row_that_equals_its_query_gets_no_gradient_from_it(kind: Comparison, dtype: torch.dtype):
    if kind == Comparison.DOT:
        return
    rows = randn(4, 10, dtype=dtype)
    for shape in [(4, 1), (1, 4)]:  # a candidate for each query, and all of them for all, of which only its own counts
        place = torch.arange(4).view(shape)
        score = pair_scores(kind, rows, rows, place)
        coefficient = torch.eye(4, dtype=dtype) if shape == (1, 4) else torch.ones(4, 1, dtype=dtype)
        _, value = sum_rows([PairGradient(place, kind, coefficient, score, rows.clone())], rows, dtype)
        assert (value == 0).all()


@both_types
@every_width
def test_occurrences_are_summed_by_their_place(dtype: torch.dtype, width: int):
    for num_rows in (1, 9, 3000):
        place, value = integers(num_rows, 40), randn(40, width, dtype=dtype)
        row, total = sum_occurrences(place, value, num_rows, torch.float64)
        expected = torch.zeros(num_rows, width, dtype=torch.float64).index_add_(0, place, value.double())
        assert row.equal(place.unique())
        assert_close(total, expected[row])
    turned = randn(width, 6, dtype=dtype).T  # as autograd may give it
    assert_close(sum_occurrences(torch.arange(6), turned, 6, torch.float64)[1], turned.double())


@pytest.mark.parametrize("num_rows", [1, 2, 2047, 2048, 2049, 1 << 22, (1 << 22) + 1, 1 << 33, 1 << 40])
@pytest.mark.parametrize("count", [0, 1, 2, 3000])
def test_occurrences_are_grouped_in_their_order(num_rows: int, count: int):
    place = integers(num_rows, count)
    place[: count // 2] = place[count // 2 : count // 2 * 2].flip(0)
    if count:
        place[-1] = num_rows - 1
    row, order, begin = group_rows(place, num_rows)
    assert order.long().equal(place.argsort(stable=True))
    distinct, number = place.unique(return_counts=True)
    assert row.equal(distinct)
    assert begin.tolist() == [0, *number.cumsum(0).tolist()]


@pytest.mark.parametrize("count", [0, 1, 7, 5000])
@pytest.mark.parametrize("rows", [1, 3, 14541, 2**40])
def test_distinct_rows_are_those_of_a_plain_sort(count: int, rows: int):
    place = torch.randint(rows, (count,), generator=torch.Generator().manual_seed(count))
    row, number = distinct_rows(place, rows)
    expected, index = torch.unique(place, return_inverse=True)
    assert row.equal(expected)
    assert number.equal(index)
