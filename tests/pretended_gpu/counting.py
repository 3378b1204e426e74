"""Counts what a GPU would have to do and wait for: kernels, and host syncs, by the line of code that causes them.

A host sync is a place where the processor waits until the GPU has done all its work: a number is read back, or the size
of a result depends on the data. Kernels are estimates: how many launches torch's CUDA code makes for an operation.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.pretended_gpu.lines import running_line

# Operations that only make another view, or memory that nothing fills.
_NO_KERNEL = frozenset(
    (
        *(
            "view",
            "_unsafe_view",
            "reshape",
            "_reshape_alias",
            "t",
            "transpose",
            "permute",
            "expand",
            "slice",
            "select",
        ),
        *("split", "split_with_sizes", "unsafe_split", "chunk", "unbind", "unsqueeze", "squeeze", "flatten", "unfold"),
        *("as_strided", "diagonal", "detach", "detach_", "alias", "lift_fresh", "resize_", "set_", "is_same_size"),
        *("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided"),
    )
)
_SORTS = frozenset(("sort", "argsort"))
# About as many as the CUDA code of torch 2.13 launches.
_KERNELS = {
    "_unique2": 14,
    "unique_dim": 20,
    "topk": 5,
    "bincount": 6,
    "repeat_interleave": 5,
    "nonzero": 3,
    "cumsum": 2,
    "_cdist_backward": 2,
    "masked_select": 4,
    "logsumexp": 5,
    "segment_reduce": 2,
}
# The size of their result, or what they return to Python, depends on the data.
_WAITS = frozenset(
    (
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
        *("_unique2", "unique_dim", "unique_consecutive"),
    )
)
_INDEXING = frozenset(("index", "index_put", "index_put_", "_index_put_impl_"))
_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Call:
    """Something that the GPU is asked to do: a kernel, a view, new memory, or a copy to or from it."""

    name: str
    function: Callable[..., Any] | None
    """Does it again if it is called with the same arguments; None for copies between the devices."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]


class Counts:
    """Kernels and host syncs since the last `clear`."""

    def __init__(self) -> None:
        self.on_call: Callable[[Call], None] | None = None
        """Is told of each call, when it is done; None: nobody is."""
        self.on_given: Callable[[list[Tensor]], None] | None = None
        """Is told of the tensors on the GPU that a call is given, before it is done; None: nobody is."""
        self.on_sync: Callable[[str], None] | None = None
        """Is told of each host sync; None: nobody is."""
        self.kernels: Counter[str] = Counter()
        """By line and operation."""
        self.syncs: Counter[str] = Counter()
        """By line and reason."""

    def clear(self) -> None:
        """Begins to count anew."""
        self.kernels.clear()
        self.syncs.clear()

    def sync(self, reason: str) -> None:
        """Counts a host sync at the line that is running."""
        if self.on_sync is not None:
            self.on_sync(reason)
        self.syncs[f"{running_line()} {reason}"] += 1

    def call(
        self,
        name: str,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        results: list[Tensor],
    ) -> None:
        """Tells of a `Call`; it counts nothing."""
        if self.on_call is not None:
            self.on_call(Call(name, function, args, kwargs, results))

    def given(self, tensors: list[Tensor]) -> None:
        """Tells of the tensors that a call is given, before it is done."""
        if self.on_given is not None:
            self.on_given(tensors)

    def kernel(self, name: str) -> None:
        """Counts the kernels of an operation at the line that is running."""
        self.kernels[f"{running_line()} {name}"] += _KERNELS.get(name, 1)

    def _sort(self, name: str, key: Tensor) -> None:
        """A radix sort takes a pass for each byte of a key, and some kernels more."""
        self.kernels[f"{running_line()} {name}"] += 2 + key.element_size()

    def operation(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
        """Counts an operation of tensors on the GPU.

        Args:
            name: without its namespace, such as "index_add_".
            results: the tensors that it returned.
        """
        if name in _WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.sync(name)
        elif name in _INDEXING and any(each is not None and each.dtype in _MASKS for each in args[1]):
            self.sync(f"{name} by a mask")
        if name in _SORTS:
            self._sort(name, args[0])
        elif name not in _NO_KERNEL and (not results or any(each.numel() for each in results)):
            self.kernel(name)
