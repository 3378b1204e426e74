"""Random tensors for kernels, how near two must be to count as equal, and a second way to run a function."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels.library

WIDTHS = (1, 2, 7, 16, 50, 200)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6}

every_width = pytest.mark.parametrize("width", WIDTHS)
both_types = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def integers(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def assert_close(found: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Equal but for rounding in the type of `found`, beside the largest number."""
    assert found.shape == expected.shape
    if not found.numel():
        return
    tolerance = TOLERANCE[found.dtype] if tolerance is None else tolerance
    apart = (found.double() - expected.double()).abs().max()
    assert apart <= tolerance * (1 + expected.double().abs().max()), f"{float(apart)} apart"


def on_threads(number: int, function: Callable[..., Any], *arguments: Any) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(before)


def with_kernels(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


def without_kernels(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What it gives where no library can be built; a kernel that is called all the same is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.library, "load", lambda: None)
        return function(*arguments, **options)


Way = Callable[..., Any]
every_way = pytest.mark.parametrize("way", [with_kernels, without_kernels], ids=["compiled", "plain"])
