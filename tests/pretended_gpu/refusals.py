"""What CUDA refuses, by the operation and the devices of its tensors."""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.pretended_gpu.lines import running_lines

_COPIES = frozenset(("copy_", "_to_copy", "_copy_from", "_copy_from_and_resize"))
_INDEXING = frozenset(("index", "index_put", "index_put_", "_index_put_impl_"))
# They take a single number from the CPU, beside those that torch calls pointwise.
_TAKE_A_NUMBER = frozenset(("fill_", "masked_fill", "masked_fill_", "index_put", "index_put_", "_index_put_impl_"))


class RefusedError(RuntimeError):
    """What CUDA, or NCCL, would have refused. The text begins with the line of code that asked for it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{running_lines(4)}: {what}")


def refuse_mixed(func: OpOverload, name: str, args: tuple[Any, ...], gpu: list[Tensor], cpu: list[Tensor]) -> None:
    """Raises RefusedError unless CUDA takes these tensors together.

    Copies between devices are allowed, and numbers: a pointwise operation takes a CPU tensor without dimensions. An
    index on the CPU is refused too, although CUDA takes it: it would be copied in each call, with a wait.

    Args:
        name: the operation's name without its namespace.
        gpu, cpu: all tensors among its arguments.
    """
    if not gpu or not cpu or name in _COPIES:
        return
    shapes = ", ".join(f"{where}{list(each.shape)}" for where, them in (("cuda", gpu), ("cpu", cpu)) for each in them)
    if name in _INDEXING and any(index is each for index in args[1] for each in cpu):
        raise RefusedError(f"{name} by an index on the other device: {shapes}")
    takes_numbers = torch.Tag.pointwise in func.tags or name in _TAKE_A_NUMBER
    writes_to_cpu = func._schema.is_mutable and any(args[0] is each for each in cpu)
    if not takes_numbers or writes_to_cpu or any(each.dim() for each in cpu):
        raise RefusedError(f"{name} of tensors on two devices: {shapes}")
