"""Triton's kernels on the pretended GPU: the interpreter runs them, and each launch counts as one kernel."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from kernels.gpu import available
from tests.pretended_gpu.counting import Counts
from tests.pretended_gpu.device import on_gpu
from tests.pretended_gpu.refusals import RefusedError


@contextlib.contextmanager
def triton_launches(counts: Counts) -> Iterator[None]:
    """Within a pretended GPU: Triton's kernels are used, by the interpreter that tests/conftest.py asks for.

    A kernel gets the address of a tensor and reads on from there, so one whose numbers lie otherwise is refused.
    """
    from triton.runtime.interpreter import InterpretedFunction

    real = InterpretedFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        counts.kernel(f"Triton: {self.__name__}")
        tensors = [each for each in args if isinstance(each, Tensor)]
        for each in tensors:
            if not each.is_contiguous():
                what = f"{list(each.shape)} that is not contiguous, with strides {each.stride()}"
                raise RefusedError(f"Triton: {self.__name__} of a tensor {what}")
        counts.given(tensors)
        launch(self, *args, grid=grid, warmup=warmup, **kwargs)
        given = {"grid": grid, "warmup": warmup, **kwargs}
        counts.call(f"Triton: {self.__name__}", partial(launch, self), args, given, [])

    def launch(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        with _disable_current_modes(), on_gpu.hidden():
            real(self, *args, grid=grid, warmup=warmup, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(available, "has_triton", lambda: True)
        patch.setattr(available, "_is_new", lambda device: True)
        patch.setattr(InterpretedFunction, "run", run)
        yield
