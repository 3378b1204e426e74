"""Distances out of a matrix product, against differences in float64."""

import pytest
import torch
from torch import Tensor

from kernels.euclidean import euclidean_gradients, euclidean_scores
from kernels.precision import Precision
from tests.kernels.arrays import assert_close, both_types, every_width, on_threads, randn

SHAPES = [(0, 4, 3), (1, 0, 3), (1, 4, 0), (1, 1, 1), (2, 4, 5), (1, 9, 64), (3, 5, 17)]


def scores_of(query: Tensor, candidate: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    dtype = dtype or query.dtype
    return euclidean_scores(torch.bmm(query.to(dtype), candidate.to(dtype).mT).to(query.dtype), query, candidate)


def plain_scores(query: Tensor, candidate: Tensor) -> Tensor:
    return -torch.linalg.vector_norm(query.double()[:, :, None] - candidate.double()[:, None], dim=-1)


def plain_gradients(coefficient: Tensor, query: Tensor, candidate: Tensor) -> tuple[Tensor, ...]:
    rows = query.double().requires_grad_(), candidate.double().requires_grad_()
    return torch.autograd.grad(plain_scores(*rows), rows, coefficient.double())


def near_rows(width: int, distances: list[float], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eight queries, and as candidates each of them moved by each distance, and a far one."""
    query = randn(1, 8, width, dtype=dtype, seed=1)
    step = torch.nn.functional.normalize(randn(8, width, seed=2), dim=1)
    moved = [(query[0].double() + distance * step).to(dtype) for distance in distances]
    return query, torch.cat([*moved, randn(1, width, dtype=dtype, seed=3)])[None]


@every_width
@both_types
def test_scores_and_gradients_are_those_of_differences(width: int, dtype: torch.dtype):
    for chunks, queries, candidates in SHAPES:
        query = randn(chunks, queries, width, dtype=dtype, seed=1)
        candidate = randn(chunks, candidates, width, dtype=dtype, seed=2)
        score = scores_of(query, candidate)
        assert_close(score, plain_scores(query, candidate))
        coefficient = randn(*score.shape, dtype=dtype, seed=3)
        found = euclidean_gradients(coefficient, score, query, candidate, Precision.FLOAT32)
        for mine, theirs in zip(found, plain_gradients(coefficient, query, candidate), strict=True):
            assert_close(mine, theirs, 1e-11 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("width", [1, 7, 16, 50, 200])
@pytest.mark.parametrize("product", [torch.float32, torch.bfloat16])
def test_small_distances_are_exact_in_float32(width: int, product: torch.dtype):
    query, candidate = near_rows(width, [1e-1, 1e-3, 1e-6, 0.0], torch.float32)
    found, expected = scores_of(query, candidate, product), plain_scores(query, candidate)
    for block in range(4):
        near = torch.arange(8), 8 * block + torch.arange(8)
        mine, theirs = found[0][near].double(), expected[0][near]
        if block == 3:
            assert (mine == 0).all()
        # A number near 0 makes a distance of 0.1 far beside its norm: that is left to the product.
        close = theirs.square() < 0.05 * query[0].double().square().sum(1)
        assert close.sum() >= 4
        assert ((mine - theirs).abs() <= 1e-6 * theirs.abs())[close].all()


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("width", [2, 7, 50, 200])
def test_gradients_of_small_distances_are_exact_in_float32(width: int, distance: float):
    query, candidate = near_rows(width, [distance], torch.float32)
    score = scores_of(query, candidate)
    coefficient = torch.eye(8, 9)[None]  # the near pairs alone
    by_query, by_candidate = euclidean_gradients(coefficient, score, query, candidate, Precision.FLOAT32)
    expected = plain_gradients(coefficient, query, candidate)
    assert_close(by_query, expected[0])
    assert_close(by_candidate, expected[1])
    if distance == 0:
        assert not by_query.any()
        assert not by_candidate.any()


@both_types
def test_near_and_far_pairs_add_up_in_the_gradient(dtype: torch.dtype):
    query, candidate = near_rows(50, [1e-3, 0.0, 1.0, 3.0], dtype)
    score = scores_of(query, candidate)
    coefficient = randn(*score.shape, dtype=dtype, seed=3)
    found = euclidean_gradients(coefficient, score, query, candidate, Precision.FLOAT32)
    for mine, theirs in zip(found, plain_gradients(coefficient, query, candidate), strict=True):
        assert_close(mine, theirs, 1e-11 if dtype == torch.float64 else 1e-5)


@both_types
def test_rows_of_zeros_are_equal_and_have_gradient_0(dtype: torch.dtype):
    query, candidate = torch.zeros(1, 5, 7, dtype=dtype), torch.zeros(1, 3, 7, dtype=dtype)
    score = scores_of(query, candidate)
    assert (score == 0).all()
    for each in euclidean_gradients(torch.ones_like(score), score, query, candidate, Precision.FLOAT32):
        assert (each == 0).all()


@both_types
@pytest.mark.parametrize("width", [7, 16, 50])
def test_a_score_does_not_depend_on_the_other_candidates(dtype: torch.dtype, width: int):
    query, candidate = near_rows(width, [1e-3, 0.0, 0.3, 1.0], dtype)
    candidate = torch.cat([candidate, randn(1, 31, width, dtype=dtype, seed=5)], dim=1)  # 64 in all
    score = scores_of(query, candidate)
    for kept in (torch.arange(64) % 2 == 0, torch.arange(64) < 16, torch.arange(64) == 40):
        for others in (randn(1, 64, width, dtype=dtype, seed=6), query[:, :1].expand(1, 64, width)):
            changed = torch.where(kept[None, :, None], candidate, others).contiguous()
            assert scores_of(query, changed)[:, :, kept].equal(score[:, :, kept])


@both_types
def test_nothing_depends_on_the_number_of_threads(dtype: torch.dtype):
    query, candidate = near_rows(50, [1e-3, 0.0, 0.3, 1.0], dtype)
    query, candidate = query.repeat(3, 1, 1), candidate.repeat(3, 1, 1)
    product = torch.bmm(query, candidate.mT)
    one, two = (on_threads(number, euclidean_scores, product.clone(), query, candidate) for number in (1, 2))
    assert one.equal(two)
    coefficient = randn(*one.shape, dtype=dtype, seed=3)
    both = [
        on_threads(number, euclidean_gradients, coefficient, one, query, candidate, Precision.FLOAT32)
        for number in (1, 2)
    ]
    for first, second in zip(*both, strict=True):
        assert_close(second, first, 1e-14 if dtype == torch.float64 else 1e-6)  # the products are torch's


@both_types
def test_a_nan_is_not_hidden(dtype: torch.dtype):
    query, candidate = near_rows(7, [1e-3], dtype)
    candidate[0, 3, 2] = torch.nan
    score = scores_of(query, candidate)
    assert score[0, :, 3].isnan().all()
    assert score[0, :, torch.arange(9) != 3].isfinite().all()
