"""Scores of pairs that are read where they lie, against the same written out whole."""

import pytest
import torch
from torch import Tensor

from kernels.pairs import Comparison, pair_scores, query_gradient
from tests.kernels.arrays import assert_close, both_types, every_width, integers, on_threads, randn

# Chunks, queries a chunk, candidates: tiles of 4 x 4 and what is left of them, and more than a block of 32 x 128.
SHAPES = [(0, 0, 5), (3, 1, 0), (1, 1, 1), (3, 1, 7), (2, 2, 4), (2, 5, 6), (1, 4, 9), (1, 33, 131)]

every_kind = pytest.mark.parametrize("kind", list(Comparison))


def plain_scores(kind: Comparison, query: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    chunks, candidates = place.shape
    width = query.shape[1]
    q = query.reshape(chunks, len(query) // max(chunks, 1), 1, width)
    c = rows[place][:, None]
    if kind == Comparison.DOT:
        score = (q * c).sum(-1)
    elif kind == Comparison.L1:
        score = -(q - c).abs().sum(-1)
    elif kind == Comparison.L2:
        score = -torch.linalg.vector_norm(q - c, dim=-1)
    else:
        real, imaginary = (q - c).split(width // 2, dim=-1)
        score = -torch.linalg.vector_norm(torch.stack([real, imaginary]), dim=0).sum(-1)
    return score.reshape(len(query), candidates)


def width_of(kind: Comparison, width: int) -> int:
    return 2 * width if kind == Comparison.MODULUS else width


def given(shape: tuple[int, int, int], width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    chunks, queries, candidates = shape
    query, rows = randn(chunks * queries, width, dtype=dtype, seed=1), randn(11, width, dtype=dtype, seed=2)
    return query, rows, integers(11, chunks, candidates, seed=3)


@every_kind
@every_width
@both_types
def test_scores_are_those_of_the_formula(kind: Comparison, width: int, dtype: torch.dtype):
    for shape in SHAPES:
        query, rows, place = given(shape, width_of(kind, width), dtype)
        found = pair_scores(kind, query, rows, place)
        assert found.dtype == dtype
        assert_close(found, plain_scores(kind, query.double(), rows.double(), place))


@every_kind
@every_width
@both_types
def test_the_gradient_by_queries_is_autograds(kind: Comparison, width: int, dtype: torch.dtype):
    for shape in SHAPES:
        query, rows, place = given(shape, width_of(kind, width), dtype)
        score = pair_scores(kind, query, rows, place)
        coefficient = randn(*score.shape, dtype=dtype, seed=4)
        found = query_gradient(kind, query, rows, place, coefficient, score)
        variable = query.double().requires_grad_()
        expected = plain_scores(kind, variable, rows.double(), place)
        assert_close(found, torch.autograd.grad(expected, variable, coefficient.double())[0])


@every_kind
@both_types
def test_a_row_equal_to_its_query_has_gradient_0(kind: Comparison, dtype: torch.dtype):
    query = randn(6, 14, dtype=dtype)
    score = pair_scores(kind, query, query, torch.arange(6)[None])
    if kind == Comparison.DOT:
        return
    assert (score.diagonal() == 0).all()
    coefficient = torch.eye(6, dtype=dtype)
    assert (query_gradient(kind, query, query, torch.arange(6)[None], coefficient, score) == 0).all()


@every_kind
@every_width
@both_types
def test_equal_rows_have_equal_scores_wherever_they_stand(kind: Comparison, width: int, dtype: torch.dtype):
    width = width_of(kind, width)
    row, first = randn(1, width, dtype=dtype, seed=5), randn(1, width, dtype=dtype, seed=6)
    alone = pair_scores(kind, first, row, torch.tensor([[0]])).item()
    rows = randn(140, width, dtype=dtype, seed=7)
    where = torch.tensor([0, 1, 2, 3, 6, 60, 61, 127, 128, 130, 139])
    rows[where] = row
    for queries in (1, 2, 3, 4, 5, 7, 33):
        query = randn(queries, width, dtype=dtype, seed=8)
        for threads in (1, 2):
            for same in {0, queries // 2, queries - 1}:
                query[same] = first[0]
                score = on_threads(threads, pair_scores, kind, query, rows, torch.arange(140)[None])
                assert (score[same, where] == alone).all()


@every_kind
@both_types
def test_nothing_depends_on_the_number_of_threads(kind: Comparison, dtype: torch.dtype):
    for shape in [(9, 1, 7), (1, 70, 131), (3, 5, 6)]:
        query, rows, place = given(shape, 50, dtype)
        one, two = (on_threads(number, pair_scores, kind, query, rows, place) for number in (1, 2))
        assert one.equal(two)
        coefficient = randn(*one.shape, dtype=dtype, seed=4)
        both = [on_threads(number, query_gradient, kind, query, rows, place, coefficient, one) for number in (1, 2)]
        assert both[0].equal(both[1])


@every_kind
@both_types
def test_a_nan_shows_in_its_own_scores_alone(kind: Comparison, dtype: torch.dtype):
    query, rows = randn(5, 34, dtype=dtype, seed=1), randn(9, 34, dtype=dtype, seed=2)
    rows[4, 33] = torch.nan
    score = pair_scores(kind, query, rows, torch.arange(9)[None])
    assert score[:, 4].isnan().all()
    assert score[:, torch.arange(9) != 4].isfinite().all()
