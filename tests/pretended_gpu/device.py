"""Which tensors are on the pretended GPU: all are in the memory of the CPU, and some storages have a mark."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretended_gpu.counting import Counts
from tests.pretended_gpu.products import as_cuda_does
from tests.pretended_gpu.refusals import refuse_mixed, refuse_unrepeatable

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
_MANY = 20_000


class Marks:
    """A mark on some storages. A view has the mark of what it is a view of.

    The weak reference keeps the address of a storage from being used again while the mark is there.
    """

    def __init__(self) -> None:
        self._marked: dict[int, StorageWeakRef] = {}
        self._many = _MANY
        self._hidden = False

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor's storage has the mark; False for tensors without one, such as sparse ones."""
        if self._hidden:
            return False
        try:
            return tensor.untyped_storage()._cdata in self._marked
        except (NotImplementedError, RuntimeError):
            return False

    def put(self, tensor: Tensor) -> Tensor:
        """Marks the storage of a tensor; returns the tensor."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._marked:
            self._marked[storage._cdata] = StorageWeakRef(storage)
            if len(self._marked) > self._many:
                self._marked = {key: each for key, each in self._marked.items() if not each.expired()}
                self._many = max(_MANY, 2 * len(self._marked))
        return tensor

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Until the end of the context no tensor has the mark, for code that needs to know where tensors really are."""
        self._hidden = True
        try:
            yield
        finally:
            self._hidden = False

    def clear(self) -> None:
        """Takes all marks away."""
        self._marked.clear()


on_gpu, pinned = Marks(), Marks()


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """All tensors among these values, and in the lists and tuples among them."""
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from tensors_in(each)


class Watch(TorchDispatchMode):
    """Sees every operation of torch: refuses what CUDA would, counts, and marks the results of GPU tensors.

    In the thread that enters it; operations of other threads are not seen.
    """

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and to tell the compiler so takes longer than the rest of this class.
        return False

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        gpu = [each for each in tensors if on_gpu.has(each)]
        if not gpu:
            return func(*args, **kwargs)
        cpu = [each for each in tensors if not on_gpu.has(each)]
        refuse_mixed(func, name, args, gpu, cpu)
        refuse_unrepeatable(name, args, kwargs)
        self.counts.given(gpu)
        out = as_cuda_does(func, name, args, kwargs)
        if name == "copy_" and cpu:
            if not (pinned.has(args[1]) and len(args) > 2 and args[2]):
                self.counts.sync("copy_ between devices")
            self.counts.kernel("copy_")
            self.counts.call("copy_ between devices", None, args, kwargs, [])
            return out
        results = [on_gpu.put(each) for each in tensors_in((out,))]
        self.counts.operation(name, args, kwargs, results)
        self.counts.call(name, func, args, kwargs, results)
        return out
