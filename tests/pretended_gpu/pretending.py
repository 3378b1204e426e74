"""The context in which a GPU is pretended: torch's functions that make, move and read tensors know of it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from kernels.gpu import available
from tests.pretended_gpu.counting import Counts
from tests.pretended_gpu.device import CPU, GPU, Watch, on_gpu, pinned
from tests.pretended_gpu.graphs import pretend_graphs
from tests.pretended_gpu.refusals import RefusedError

_FILLED = ("zeros", "ones", "full", "arange", "eye", "linspace")
_MEMORY = 80_000_000_000


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Counts]:
    """Until the end of the context, torch has a GPU: `torch.zeros(3, device="cuda")` says that it is on cuda:0.

    CUDA's refusals are `RefusedError`. Yields the counts of kernels and host syncs.
    """
    counts = Counts()
    with pytest.MonkeyPatch.context() as patch:
        _pretend_cuda(patch)
        _pretend_attributes(patch)
        _pretend_moves(patch, counts)
        _pretend_makers(patch, counts)
        _pretend_reads(patch, counts)
        pretend_graphs(patch, counts)
        try:
            with Watch(counts):
                yield counts
        finally:
            on_gpu.clear()
            pinned.clear()


def _pretend_cuda(patch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "set_device": None,
        "mem_get_info": (_MEMORY, _MEMORY),
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "get_device_capability": (9, 0),
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    # Triton would compile for a real GPU: its kernels have tests of their own.
    patch.setattr(available, "has_triton", lambda: False)


def _pretend_attributes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tensor, "device", property(lambda self: GPU if on_gpu.has(self) else CPU))
    patch.setattr(Tensor, "is_cuda", property(on_gpu.has))
    patch.setattr(Tensor, "is_cpu", property(lambda self: not on_gpu.has(self)))


def _pretend_moves(patch: pytest.MonkeyPatch, counts: Counts) -> None:
    real = Tensor.to

    class Moved(torch.autograd.Function):
        """A copy on the other device, whose gradient is copied back."""

        @staticmethod
        def forward(ctx: Any, value: Tensor, to_gpu: bool) -> Tensor:
            ctx.to_gpu = to_gpu
            with _disable_current_modes():  # which would mark the copy as they find the original
                copied = value.clone()
            return on_gpu.put(copied) if to_gpu else copied

        @staticmethod
        def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
            return move(gradient[0], CPU if ctx.to_gpu else GPU), None

    def move(value: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        to_gpu = device.type == "cuda"
        if to_gpu == on_gpu.has(value):
            return value
        counts.kernel("copy")
        if not (to_gpu and non_blocking and pinned.has(value)):
            counts.sync("copy to the GPU" if to_gpu else "copy to the CPU")
        moved = Moved.apply(value, to_gpu)
        counts.call("copy to the GPU" if to_gpu else "copy to the CPU", None, (value,), {}, [moved])
        return moved

    def to(self: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):  # its real device is the CPU
            args = args[0].device, args[0].dtype, *args[1:]
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        moved = self if device is None else move(self, device, non_blocking)
        if dtype is not None and dtype != moved.dtype:
            return real(moved, dtype)
        return moved.clone() if copy and moved is self else moved

    def pin_memory(self: Tensor) -> Tensor:
        if on_gpu.has(self):
            raise RefusedError("pin_memory of a GPU tensor")
        return pinned.put(self.clone())

    def is_pinned(self: Tensor) -> bool:
        return pinned.has(self)

    patch.setattr(Tensor, "to", to)
    patch.setattr(Tensor, "cpu", lambda self: move(self, CPU))
    patch.setattr(Tensor, "cuda", lambda self, *_, **__: move(self, GPU))
    patch.setattr(Tensor, "pin_memory", pin_memory)
    patch.setattr(Tensor, "is_pinned", is_pinned)


def _pretend_makers(patch: pytest.MonkeyPatch, counts: Counts) -> None:
    def on_device(real: Callable[..., Tensor], filled: bool) -> Callable[..., Tensor]:
        def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            made = real(*args, **kwargs)
            if device is None or torch.device(device).type == "cpu":
                return made
            if filled and made.numel():
                counts.kernel(real.__name__)
            counts.call(real.__name__, real, args, kwargs, [on_gpu.put(made)])
            return made

        return make

    def from_python(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            made = real(data, *args, **kwargs)
            return made if device is None else made.to(device)

        return make

    def new_tensor(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = real_new_tensor(self, *args, **kwargs)
        return made.to(GPU) if on_gpu.has(self) else made

    def one_hot(places: Tensor, num_classes: int) -> Tensor:
        # torch's own makes its zeros in C++, on the real device.
        zeros = torch.zeros((*places.shape, num_classes), dtype=torch.int64, device=places.device)
        return zeros.scatter_(-1, places[..., None], 1)

    real_new_tensor = Tensor.new_tensor
    for name in (*_FILLED, "empty"):
        patch.setattr(torch, name, on_device(getattr(torch, name), filled=name in _FILLED))
    for name in ("tensor", "as_tensor"):
        patch.setattr(torch, name, from_python(getattr(torch, name)))
    patch.setattr(Tensor, "new_tensor", new_tensor)
    patch.setattr(functional, "one_hot", one_hot)


def _pretend_reads(patch: pytest.MonkeyPatch, counts: Counts) -> None:
    def refused(name: str) -> Callable[..., Any]:
        real = getattr(Tensor, name)

        def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if on_gpu.has(self):
                raise RefusedError(f"{name} of a GPU tensor")
            return real(self, *args, **kwargs)

        return read

    def tolist(self: Tensor) -> Any:
        if on_gpu.has(self):
            counts.kernel("copy")
            counts.sync("tolist")
        return real_tolist(self)

    real_tolist = Tensor.tolist
    for name in ("numpy", "data_ptr", "__array__"):
        patch.setattr(Tensor, name, refused(name))
    patch.setattr(Tensor, "tolist", tolist)
