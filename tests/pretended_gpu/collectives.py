"""What NCCL refuses of the tensors that are given to a collective; gloo, which tests use, takes more.

The rules are those of torch's ProcessGroupNCCL: tensors on the GPU, contiguous, of a type that NCCL has. A sum of bool
is refused too, because NCCL makes an "or" of it. Groups that the project makes beside the default one are of gloo, in
runs on GPUs too, so their tensors must be on the CPU.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from embedding import triple_scorer
from tests.pretended_gpu.device import on_gpu
from tests.pretended_gpu.refusals import RefusedError

_TYPES = (
    *(torch.uint8, torch.int8, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
_COLLECTIVES = ("all_reduce", "all_to_all_single", "all_gather", "broadcast")
_UNUSED = ("reduce", "gather", "scatter", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all")


@contextlib.contextmanager
def nccl_rules() -> Iterator[Counter[str]]:
    """Within a pretended GPU: collectives raise RefusedError for what NCCL would refuse. Yields calls by name."""
    calls: Counter[str] = Counter()

    def checked(name: str) -> Callable[..., Any]:
        real = getattr(dist, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            tensors = [*_tensors_in(args), *_tensors_in(kwargs.values())]
            if kwargs.get("group") is None:
                calls[name] += 1
                refuse_for_nccl(name, tensors)
            elif any(on_gpu.has(each) for each in tensors):
                raise RefusedError(f"{name} of a group of gloo, of a tensor on the GPU")
            return real(*args, **kwargs)

        return call

    def unknown(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise RefusedError(f"{name} is no collective that {__name__} knows the rules of: add them")

        return call

    def add_gradients(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        on_gpu.put(bucket.buffer())  # DDP makes its buckets in C++
        return real_hook(state, bucket)

    real_hook = triple_scorer._add_gradients
    with pytest.MonkeyPatch.context() as patch:
        for name in _COLLECTIVES:
            patch.setattr(dist, name, checked(name))
        for name in _UNUSED:
            patch.setattr(dist, name, unknown(name))
        patch.setattr(triple_scorer, "_add_gradients", add_gradients)
        yield calls


def refuse_for_nccl(name: str, tensors: list[Tensor]) -> None:
    """Raises RefusedError unless NCCL takes these tensors."""
    for each in tensors:
        kind = f"a {str(each.dtype).removeprefix('torch.')} tensor {list(each.shape)}"
        if not on_gpu.has(each):
            raise RefusedError(f"{name} of {kind} on the CPU")
        if not each.is_contiguous():
            raise RefusedError(f"{name} of {kind} that is not contiguous, with strides {each.stride()}")
        if each.dtype not in _TYPES:
            raise RefusedError(f"{name} of {kind}, a type that NCCL does not add up")


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from _tensors_in(each)
