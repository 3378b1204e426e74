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


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Operations that have no deterministic algorithm on CUDA, as torch 2.13 says of `use_deterministic_algorithms`; some of
# them with some arguments. `topk` is not on its list: it promises no order of equal numbers.
_UNREPEATABLE = frozenset(
    (
        *("put_", "put", "histc", "median", "nanmedian", "kthvalue", "topk", "nll_loss_forward", "nll_loss2d_forward"),
        *("_embedding_bag_backward", "_ctc_loss", "_ctc_loss_backward", "grid_sampler_2d_backward"),
        *("cumsum", "cumsum_", "bincount", "scatter_reduce"),
    )
)


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


def refuse_unrepeatable(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises RefusedError where torch has been asked for deterministic algorithms, and CUDA has none.

    Args:
        name: the operation's name without its namespace.
    """
    if not torch.are_deterministic_algorithms_enabled() or name not in _UNREPEATABLE:
        return
    if name.startswith("cumsum") and not (args[0].is_floating_point() or kwargs.get("dtype") in _FLOATS):
        return
    if name == "bincount" and (args[1] if len(args) > 1 else kwargs.get("weights")) is None:
        return
    if name == "scatter_reduce" and "prod" not in (*args, *kwargs.values()):
        return
    if name in ("median", "nanmedian") and len(args) < 2:
        return
    raise RefusedError(f"{name} on a GPU is not deterministic")
