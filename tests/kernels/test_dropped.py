"""Products with masked matrices that are not copied, and their gradients, against autograd of the formulas."""

import pytest
import torch
from torch import Tensor

from kernels.dropped import dropped_outer_sums, dropped_products
from tests.kernels.arrays import TOLERANCE, WIDTHS, assert_close, both_types, integers, on_threads, randn
from tests.pairwise import pairwise

MATRICES, NEVER = 7, 5


def given(count: int, rows: int, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices, the number of each vector's, of which one never occurs, and masks."""
    number = integers(MATRICES - 1, count, seed=4)
    matrices = randn(MATRICES, rows * columns, dtype=dtype, seed=2)
    return matrices, number + (number >= NEVER).long(), randn(count, rows * columns, seed=3) > 0


@pairwise(rows=WIDTHS[:-1], columns=WIDTHS[:-1], dtype=list(TOLERANCE), count=[0, 1, 40], transposed=[False, True])
def test_products_and_gradients_are_those_of_the_formula(
    rows: int, columns: int, dtype: torch.dtype, count: int, transposed: bool
):
    matrices, number, kept = given(count, rows, columns, dtype)
    vector = randn(count, columns if transposed else rows, dtype=dtype, seed=1)
    gradient = randn(count, rows if transposed else columns, dtype=dtype, seed=5)
    wide, leaf = vector.double().requires_grad_(), matrices.double().requires_grad_()
    left = (leaf[number] * kept).view(count, rows, columns)
    expected = ((left @ wide[:, :, None])[:, :, 0]) if transposed else (wide[:, None] @ left)[:, 0]
    by_vector, by_matrices = torch.autograd.grad(expected, (wide, leaf), gradient.double())
    assert_close(dropped_products(vector, matrices, number, kept, transposed=transposed), expected)
    assert_close(dropped_products(gradient, matrices, number, kept, transposed=not transposed), by_vector)
    sides = (gradient, vector) if transposed else (vector, gradient)
    found = dropped_outer_sums(*sides, number, kept, MATRICES)
    assert found.dtype == torch.float64
    assert_close(found, by_matrices, TOLERANCE[dtype])
    assert not found[NEVER].any()


def test_what_is_dropped_does_not_count():
    matrices, number, kept = given(3, 5, 9, torch.float32)
    vector = randn(3, 5, dtype=torch.float32)
    before = dropped_products(vector, matrices, number, kept, transposed=False)
    own = matrices[number].masked_fill(~kept, torch.nan)
    assert dropped_products(vector, own, torch.arange(3), kept, transposed=False).equal(before)


def test_the_gradient_by_matrices_is_summed_in_float64():
    left, right = torch.tensor([[1e8], [1.0], [-1e8]]), torch.ones(3, 9)
    kept = torch.ones(3, 9, dtype=torch.bool)
    assert (dropped_outer_sums(left, right, torch.zeros(3, dtype=torch.int64), kept, 1) == 1).all()


def test_a_matrix_that_there_is_not_is_refused():
    vector, kept = randn(2, 3), randn(2, 9) > 0
    with pytest.raises(IndexError, match=r"^place 1 is row 4: there are rows 0 to 3$"):
        dropped_outer_sums(vector, vector, torch.tensor([0, 4]), kept, 4)


@both_types
def test_nothing_depends_on_the_number_of_threads(dtype: torch.dtype):
    matrices, number, kept = given(90, 8, 21, dtype)
    left, right = randn(90, 8, dtype=dtype), randn(90, 21, dtype=dtype, seed=1)

    def everything() -> list[Tensor]:
        return [
            dropped_products(left, matrices, number, kept, transposed=False),
            dropped_products(right, matrices, number, kept, transposed=True),
            dropped_outer_sums(left, right, number, kept, MATRICES),
        ]

    for one, two in zip(on_threads(1, everything), on_threads(2, everything), strict=True):
        assert one.equal(two)
