"""Scores of pairs and their gradients by Triton's kernels, against the formulas and the CPU's kernels."""

import pytest
import torch

import kernels.gpu.pairs
import kernels.pairs
from kernels.gpu.pairs import candidate_gradient, pair_scores, query_gradient
from kernels.pairs import Comparison
from tests.kernels.arrays import assert_close, both_types, randn
from tests.kernels.test_pairs import every_kind, given, plain_scores

# Chunks, queries a chunk, candidates. The interpreter takes some ms a program, so blocks are small.
SHAPES = [(0, 0, 5), (2, 1, 0), (2, 1, 5), (1, 6, 3)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(kernels.gpu.pairs, "_OTHERS", 4)
    monkeypatch.setattr(kernels.gpu.pairs, "_NUMBERS", 8)


@every_kind
@pytest.mark.parametrize("width", [2, 10])
@both_types
def test_scores_and_gradients_are_those_of_the_formula(kind: Comparison, width: int, dtype: torch.dtype):
    for shape in SHAPES:
        query, rows, place = given(shape, width, dtype)
        score = pair_scores(kind, query, rows, place)
        assert score.dtype == dtype
        assert_close(score, plain_scores(kind, query.double(), rows.double(), place))
        coefficient = randn(*score.shape, dtype=dtype, seed=4)
        q, r = query.double().requires_grad_(), rows[place].double().requires_grad_()
        own = torch.arange(place.numel()).view(place.shape)
        value = (coefficient.double() * plain_scores(kind, q, r.flatten(0, 1), own)).sum()
        by_query, by_candidate = torch.autograd.grad(value, (q, r))
        assert_close(query_gradient(kind, query, rows, place, coefficient, score), by_query)
        assert_close(candidate_gradient(kind, query, rows, place, coefficient, score), by_candidate)


@every_kind
@both_types
def test_a_row_equal_to_its_query_has_gradient_0(kind: Comparison, dtype: torch.dtype):
    if kind == Comparison.DOT:
        return
    query, place = randn(2, 6, dtype=dtype), torch.tensor([[0], [1]])
    score, coefficient = pair_scores(kind, query, query.clone(), place), torch.ones((2, 1), dtype=dtype)
    for gradient in (query_gradient, candidate_gradient):
        assert not gradient(kind, query, query.clone(), place, coefficient, score).any()


@every_kind
@both_types
def test_equal_rows_have_equal_scores_wherever_they_stand(kind: Comparison, dtype: torch.dtype):
    row = randn(1, 10, dtype=dtype).expand(11, -1).contiguous()
    score = pair_scores(kind, randn(1, 10, dtype=dtype, seed=1), row, torch.arange(11)[None])
    assert (score == score[:, :1]).all()


def test_sizes_that_do_not_fit_are_refused_before_a_kernel_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels.pairs, "usable_on_gpu", lambda *_: True)
    query, rows, place = given((2, 3, 4), 6, torch.float32)
    with pytest.raises(ValueError, match="5 queries are not divided evenly over 2 chunks"):
        kernels.pairs.pair_scores(Comparison.L1, query[:5], rows, place)
    found = kernels.pairs.pair_scores(Comparison.L1, query, rows, place)
    assert_close(found, plain_scores(Comparison.L1, query.double(), rows.double(), place))
