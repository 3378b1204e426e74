"""Queries that are made where rows lie, and their gradients, against autograd of the formulas."""

import pytest
import torch
from torch import Tensor

from kernels.queries import Combination, entity_gradient, make_queries, relation_gradient
from tests.kernels.arrays import TOLERANCE, WIDTHS, assert_close, both_types, integers, on_threads, randn
from tests.pairwise import pairwise

ROWS, RELATIONS, NEVER = 9, 7, 5

every_combination = pytest.mark.parametrize("kind", list(Combination))


def plain_queries(kind: Combination, entity: Tensor, relation: Tensor, head_rows: int) -> Tensor:
    of_head = (torch.arange(len(entity)) < head_rows)[:, None]
    if kind == Combination.TRANSLATION:
        return torch.where(of_head, entity - relation, entity + relation)
    if kind == Combination.PRODUCT:
        return entity * relation
    e, r = (torch.complex(*each.chunk(2, dim=1)) for each in (entity, relation))
    turned = e * torch.where(of_head, r.conj(), r)
    return torch.cat([turned.real, turned.imag], dim=1)


def given(kind: Combination, queries: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entity rows, places, relation rows, relations; one relation is never asked about."""
    width = 2 * width if kind == Combination.ROTATION else width
    relation = integers(RELATIONS - 1, queries, seed=4)
    rows, relations = randn(ROWS, width, dtype=dtype, seed=1), randn(RELATIONS, width, dtype=dtype, seed=2)
    return rows, integers(ROWS, queries, seed=3), relations, relation + (relation >= NEVER).long()


@pairwise(kind=list(Combination), width=WIDTHS, dtype=list(TOLERANCE), queries=[0, 1, 6, 70])
def test_queries_and_gradients_are_those_of_the_formula(
    kind: Combination, width: int, dtype: torch.dtype, queries: int
):
    rows, place, relations, relation = given(kind, queries, width, dtype)
    entity, factor = rows.double()[place].requires_grad_(), relations.double().requires_grad_()
    gradient = randn(queries, rows.shape[1], dtype=dtype, seed=5)
    for head_rows in {0, queries // 3, queries}:
        expected = plain_queries(kind, entity, factor[relation], head_rows)
        by_entity, by_relation = torch.autograd.grad(expected, (entity, factor), gradient.double())
        assert_close(make_queries(kind, rows, place, relations, relation, head_rows), expected)
        assert_close(entity_gradient(kind, gradient, relations, relation, head_rows), by_entity)
        found = relation_gradient(kind, gradient, rows, place, relation, RELATIONS, head_rows)
        assert found.dtype == torch.float64
        assert_close(found, by_relation, 1e-12 if dtype == torch.float64 else 3e-6)
        assert not found[NEVER].any()


@every_combination
def test_the_gradient_by_relations_is_summed_in_float64(kind: Combination):
    rows, gradient = torch.ones(1, 18), torch.tensor([1e8, 1.0, -1e8])[:, None].expand(3, 18).contiguous()
    if kind == Combination.ROTATION:
        rows[:, 9:] = 0  # real ones
    zeros = torch.zeros(3, dtype=torch.int64)
    assert (relation_gradient(kind, gradient, rows, zeros, zeros, 1, 0) == 1).all()


@every_combination
@both_types
def test_nothing_depends_on_the_number_of_threads(kind: Combination, dtype: torch.dtype):
    rows, place, relations, relation = given(kind, 300, 25, dtype)
    gradient = randn(300, rows.shape[1], dtype=dtype, seed=5)

    def everything() -> list[Tensor]:
        return [
            make_queries(kind, rows, place, relations, relation, 100),
            entity_gradient(kind, gradient, relations, relation, 100),
            relation_gradient(kind, gradient, rows, place, relation, RELATIONS, 100),
        ]

    for one, two in zip(on_threads(1, everything), on_threads(2, everything), strict=True):
        assert one.equal(two)
