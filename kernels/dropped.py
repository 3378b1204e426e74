"""Products with matrices that dropout has taken numbers from, without copies of the matrices (dropped.cpp)."""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from kernels.library import call, type_name
from kernels.rows import group_rows
from kernels.shapes import expect_shape


def dropped_products(
    vector: Float[Tensor, "B V"],
    matrices: Float[Tensor, "R M"],
    number: Int64[Tensor, " B"],
    kept: Bool[Tensor, "B M"],
    *,
    transposed: bool,
) -> Float[Tensor, "B W"]:
    """Each vector times what its mask leaves of its matrix, V x W numbers row by row: vector @ matrix.

    Args:
        number: of each vector's matrix.
        kept: False for numbers of the matrix that count as 0.
        transposed: the matrix has W x V numbers, and the product is matrix @ vector.
    """
    count, width = vector.shape
    other = matrices.shape[1] // max(1, width)
    expect_shape("matrices", matrices, len(matrices), width * other)
    expect_shape("number", number, count)
    expect_shape("kept", kept, count, width * other)
    out = vector.new_empty((count, other))
    rows, columns = (other, width) if transposed else (width, other)
    name = f"dropped_product{'_transposed' if transposed else ''}_{type_name(vector)}"
    call(name, vector, matrices, number, kept, out, count, rows, columns, torch.get_num_threads())
    return out


def dropped_outer_sums(
    left: Float[Tensor, "B V"],
    right: Float[Tensor, "B W"],
    number: Int64[Tensor, " B"],
    kept: Bool[Tensor, "B M"],
    num_matrices: int,
) -> Float64[Tensor, "R M"]:
    """The sum over the vectors of each matrix, in float64, of what their masks leave of left x right.

    This is the gradient of `dropped_products` by the matrices.

    Raises:
        IndexError: a number is not in [0, num_matrices).
    """
    count, rows = left.shape
    columns = right.shape[1]
    expect_shape("right", right, count, columns)
    expect_shape("number", number, count)
    expect_shape("kept", kept, count, rows * columns)
    out = torch.zeros((num_matrices, rows * columns), dtype=torch.float64)
    matrix, order, begin = group_rows(number, num_matrices)
    sizes = len(matrix), rows, columns, torch.get_num_threads()
    call(f"dropped_outer_sums_{type_name(left)}", left, right, kept, order, begin, matrix, out, *sizes)
    return out
