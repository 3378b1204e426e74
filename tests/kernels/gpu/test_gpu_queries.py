"""Queries and their gradients by Triton's kernels, against those of the formulas in float64."""

import pytest
import torch

from kernels.gpu.queries import entity_gradient, make_queries, relation_gradient
from kernels.queries import Combination
from tests.kernels.arrays import assert_close, both_types, randn
from tests.kernels.test_queries import NEVER, RELATIONS, every_combination, given, plain_queries


@both_types
@every_combination
@pytest.mark.parametrize(("queries", "width"), [(0, 3), (5, 3), (4, 130)])
def test_queries_and_gradients_are_those_of_the_formula(
    kind: Combination, dtype: torch.dtype, queries: int, width: int
):
    rows, place, relations, relation = given(kind, queries, width, dtype)
    entity, factor = rows.double()[place].requires_grad_(), relations.double().requires_grad_()
    gradient = randn(queries, rows.shape[1], dtype=dtype, seed=5)
    for head_rows in {0, queries // 3, queries}:
        expected = plain_queries(kind, entity, factor[relation], head_rows)
        by_entity, by_relation = torch.autograd.grad(expected, (entity, factor), gradient.double())
        assert_close(make_queries(kind, rows, place, relations, relation, head_rows), expected)
        if kind != Combination.TRANSLATION:  # of which it is the gradient itself
            assert_close(entity_gradient(kind, gradient, relations, relation, head_rows), by_entity)
        found = relation_gradient(kind, gradient, rows, place, relation, RELATIONS, head_rows)
        assert found.dtype == torch.float64
        assert_close(found, by_relation, 1e-12 if dtype == torch.float64 else 3e-6)
        assert not found[NEVER].any()
        there = make_queries(kind, rows, place, relations, relation, torch.tensor(head_rows))
        assert there.equal(make_queries(kind, rows, place, relations, relation, head_rows))
