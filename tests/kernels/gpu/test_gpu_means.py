"""Weighted means by Triton's kernels, against the formula in float64."""

import pytest
import torch

import kernels.gpu.means
from kernels.means import divided, weighted_mean
from tests.kernels.arrays import assert_close, both_types, randn, without_kernels


@both_types
@pytest.mark.parametrize("size", [1, 7, 2500])
def test_weighted_means_and_their_gradients_are_the_plain_ones(dtype: torch.dtype, size: int):
    value, weight = randn(size, dtype=dtype).requires_grad_(), randn(size, seed=2).double().abs()
    mean = weighted_mean(value, weight, 3.7)
    factor = torch.tensor(-0.3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(mean, value, factor)
    mine = kernels.gpu.means.weighted_mean(value.detach(), weight, 3.7)
    torch.testing.assert_close(mine, (value.double() * weight).sum().detach() / 3.7)
    assert_close(kernels.gpu.means.divided(weight, 3.7, dtype, factor), gradient)
    assert_close(kernels.gpu.means.divided(weight, -3.7, dtype), without_kernels(divided, weight, -3.7, dtype))


def test_the_mean_of_nothing_is_0():
    nothing = torch.empty(0, dtype=torch.float64)
    assert kernels.gpu.means.weighted_mean(nothing, nothing, 1.0) == 0
    assert len(kernels.gpu.means.divided(nothing, 1.0, torch.float32)) == 0
