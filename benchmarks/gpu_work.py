"""What a training step asks of a GPU: kernels, bytes and operations, from the shapes of a step on the pretended GPU.

Torch's kernels run on the CPU and are seen one by one. Triton's are not run: each launch is noted with the shapes of
its arguments, and what it would have written is zeros. So the numbers of such a step mean nothing, but its kernels do.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.pairs import Comparison

_GATHERS = frozenset(("index_select", "embedding", "index", "gather", "take_along_dim"))
_SCATTERS = frozenset(
    ("index_add_", "index_put_", "_index_put_impl_", "scatter_", "scatter_add_", "index_copy_", "index_fill_")
)
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmm_": 1}
"""Matrix products, and the place of their left factor among the arguments."""
_PAIRS = {"_contrast": 2, "_pair_scores": 1, "_query_gradient": 1, "_candidate_gradient": 1}
"""Triton's kernels that compare queries with rows, and how often they read a row for each query."""
_OPERATIONS = {Comparison.DOT: 2, Comparison.L1: 3, Comparison.L2: 3, Comparison.MODULUS: 4}
"""For each number of a pair and each time that it is read."""
_ROWS_OF_TABLES = frozenset(("weight", "mean", "square", "square_sum", "rows"))
"""Arguments of Triton's kernels of which a program reads and writes one row."""


@dataclass(frozen=True)
class Kernels:
    """Kernels of one operation, or one of Triton's."""

    name: str
    number: int
    flops: float = 0.0
    type: torch.dtype = torch.float32
    """Of the operations."""
    memory: float = 0.0
    """Bytes read and written, each tensor once a kernel."""
    cache: float = 0.0
    """Bytes that several programs read again, from the cache."""
    is_triton: bool = False


@dataclass(frozen=True)
class StepWork:
    """One step."""

    kernels: list[Kernels]
    waits: int
    positives: int
    """Triples; each counts once, also if both of its sides are corrupted."""

    @property
    def launches(self) -> tuple[int, int]:
        """The number of torch's kernels, and of Triton's."""
        triton = sum(each.number for each in self.kernels if each.is_triton)
        return sum(each.number for each in self.kernels) - triton, triton


def work_of_step(options: Sequence[str], folder: Path, *, triton: bool, number: int = 2) -> StepWork:
    """The work of a step of a run of these options, which must be within its first epoch.

    Args:
        triton: Triton's kernels are used where there are some, else plain torch.
        number: of the step; those before it run too, because the first may differ.
    """
    # The pretended GPU is part of the tests, and pytest of their requirements.
    from tests.pretended_gpu.drive import alone, built
    from tests.pretended_gpu.pretending import pretended_gpu

    with pretended_gpu() as counts, contextlib.ExitStack() as stack:
        noted: list[Kernels] = []
        if triton:
            stack.enter_context(_launches_only(noted))
        _, trainer = built(options, folder, alone("cuda"), epochs=1)
        stage = trainer.stages[-1]
        for warm_up in range(number):
            trainer.train_step(stage, warm_up)
        counts.clear()
        noted.clear()
        seen = counts.operation

        def operation(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
            before = counts.kernels.total()
            seen(name, args, kwargs, results)
            made = counts.kernels.total() - before
            if made:
                noted.append(_torch_kernels(name, made, args, results))

        counts.operation = operation
        trainer.train_step(stage, number)
        torch_kernels = sum(each.number for each in noted if not each.is_triton)
        others = counts.kernels.total() - torch_kernels  # fills and copies, which are no operations of a GPU's tensors
        positives = stage.order.chunks_per_batch * stage.order.chunk_size
        return StepWork([*noted, Kernels("fill or copy", others)], counts.syncs.total(), positives)


def _size(tensor: Tensor) -> int:
    """Bytes; those of an expanded tensor are there once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for each in values:
            yield from _tensors(each)


def _torch_kernels(name: str, number: int, args: tuple[Any, ...], results: list[Tensor]) -> Kernels:
    given, made = list(_tensors(args)), sum(map(_size, results))
    kind = results[0].dtype if results else torch.float32
    if name in _PRODUCTS:
        inner = given[_PRODUCTS[name]].shape[-1]
        flops = 2.0 * inner * sum(each.numel() for each in results)
        return Kernels(name, number, flops, kind, sum(map(_size, given)) + made)
    if name == "_cdist_forward":
        pairs = results[0].numel() * given[0].shape[-1]
        return Kernels(name, number, 3.0 * pairs, kind, sum(map(_size, given)) + made)
    if name == "_cdist_backward":
        # CUDA's writes a gradient for each pair of rows, and sums it in a second kernel.
        left, right, gradient = given[1], given[2], given[0]
        pairs = gradient.numel() * left.shape[-1]
        return Kernels(name, number, 4.0 * pairs, kind, 2.0 * pairs * left.element_size() + _size(left) + _size(right))
    if name in _GATHERS:
        return Kernels(name, number, 0.0, kind, 2.0 * made + sum(map(_size, given[1:])))
    if name in _SCATTERS:
        return Kernels(name, number, 0.0, kind, 3.0 * sum(map(_size, given[1:])))
    return Kernels(name, number, 0.0, kind, float(number * (sum(map(_size, given)) + made)))


def _triton_kernel(function: Any, given: dict[str, Any], grid: tuple[int, ...]) -> Kernels:
    """A launch of a kernel; of one that this module does not know, each tensor is read or written once."""
    name = function.__name__
    tensors = {key: each for key, each in given.items() if isinstance(each, Tensor)}
    if name in _PAIRS:
        query, comparison = given["query"], list(Comparison)[given["KIND"]]
        pairs, reads = query.numel() * given["candidates"], _PAIRS[name]
        item, rows = query.element_size(), given["rows"]
        touched = min(_size(rows), given["place"].numel() * rows.shape[1] * item)
        apart = sum(_size(each) for key, each in tensors.items() if key != "rows")
        flops = float(reads * _OPERATIONS[comparison] * pairs)
        return Kernels(name, 1, flops, query.dtype, apart + touched, float(reads * pairs * item), is_triton=True)
    programs, memory = math.prod(grid), 0.0
    for key, each in tensors.items():
        row = _size(each) / max(1, len(each)) if each.dim() else _size(each)
        memory += min(_size(each), 2 * programs * row) if key in _ROWS_OF_TABLES else _size(each)
    return Kernels(name, 1, memory=memory, is_triton=True)


@contextlib.contextmanager
def _launches_only(noted: list[Kernels]) -> Iterator[None]:
    """Within a pretended GPU: launches of Triton's kernels are noted and do nothing; new tensors are zeros."""
    import pytest
    from torch.utils._python_dispatch import _disable_current_modes
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    from kernels.gpu import available

    def run(self: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
        noted.append(_triton_kernel(self, dict(zip(self.arg_names, args, strict=False)) | options, grid))

    def zeros(real: Any) -> Any:
        def make(*args: Any, **options: Any) -> Tensor:
            made = real(*args, **options)
            with _disable_current_modes():
                return made.zero_()

        return make

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(available, "has_triton", lambda: True)
        patch.setattr(available, "_is_new", lambda device: True)
        for function in (JITFunction, InterpretedFunction):
            patch.setattr(function, "run", run)
        for place, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            patch.setattr(place, name, zeros(getattr(place, name)))
        yield
