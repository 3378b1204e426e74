"""Products with rounded factors, against products in float64 of factors that are rounded by hand."""

import pytest
import torch
from torch import Tensor

import kernels.precision
from kernels.precision import Precision, lowered, multiplied, tf32
from tests.kernels.arrays import assert_close, randn
from tests.pretended_gpu.products import to_tf32


def by_hand(value: Tensor, precision: Precision) -> Tensor:
    digits = {Precision.TF32: 11, Precision.BFLOAT16: 8}[precision]
    fraction, exponent = torch.frexp(value.double())
    return torch.ldexp((fraction * 2**digits).round(), exponent - digits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("precision", [Precision.TF32, Precision.BFLOAT16])
def test_factors_are_rounded_and_sums_are_not(
    precision: Precision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kernels.precision, "has_bfloat16", lambda: False)
    left, right = randn(2, 5, 7, dtype=dtype), randn(2, 7, 3, dtype=dtype, seed=1)
    product = multiplied(lowered(left, precision), lowered(right, precision), precision)
    assert product.dtype == torch.float32
    expected = by_hand(left.float(), precision) @ by_hand(right.float(), precision)
    assert_close(product, expected, 1e-6)
    assert (product - (left @ right)).abs().max() > 1e-4
    total = torch.ones(2, 5, 3, dtype=dtype)
    same = multiplied(lowered(left, precision), lowered(right, precision), precision, plus=total)
    assert same is total
    assert_close(same, expected + 1, 1e-6)


def test_processors_with_bfloat16_instructions_get_its_own_product(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels.precision, "has_bfloat16", lambda: True)
    left, right = (lowered(each, Precision.BFLOAT16) for each in (randn(2, 5, 7).float(), randn(2, 7, 3).float()))
    assert left.dtype == torch.bfloat16
    product = multiplied(left, right, Precision.BFLOAT16)
    assert product.dtype == torch.float32
    assert_close(product, torch.bmm(left.double(), right.double()), 2**-8)
    assert product.equal(product.bfloat16().float())


def test_without_rounding_the_types_stay():
    left, right = randn(1, 2, 3), randn(1, 3, 2, seed=1)
    assert lowered(left, Precision.FLOAT32) is left
    assert multiplied(left, right, Precision.FLOAT32).equal(left @ right)
    total = randn(1, 2, 2, seed=2)
    assert_close(multiplied(left, right, Precision.FLOAT32, plus=total.clone()), total + left @ right)


def test_tf32_is_the_nearest_number_and_even_between_two():
    value = torch.cat([randn(10_000).float(), 1e30 * randn(99).float(), 1e-30 * randn(99).float()])
    assert tf32(value).equal(to_tf32(value))
    ties = 1 + torch.arange(8) * 2.0**-11
    assert tf32(ties).tolist() == [1 + 2.0**-10 * step for step in (0, 0, 1, 2, 2, 2, 3, 4)]
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan])
    assert tf32(odd)[:4].equal(odd[:4])
    assert tf32(odd)[4].isnan()
