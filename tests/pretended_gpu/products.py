"""What CUDA does in matrix products and a CPU does not: TF32 if it is asked for, and float32 from bfloat16."""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

_PRODUCTS = frozenset(("mm", "bmm", "addmm", "baddbmm", "linear"))


def as_cuda_does(func: OpOverload, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operation of tensors on the GPU.

    While the process has asked for TF32, every product of float32 gets it: also one that should not.

    Args:
        name: the operation's name without its namespace.
    """
    if func is torch.ops.aten.bmm.dtype:
        left, right, dtype = args
        return torch.bmm(left.to(dtype), right.to(dtype))
    if name in _PRODUCTS and torch.backends.cuda.matmul.fp32_precision == "tf32":
        args = *args[:-2], *(to_tf32(each) if each.dtype == torch.float32 else each for each in args[-2:])
    return func(*args, **kwargs)


def to_tf32(value: Tensor) -> Tensor:
    """The nearest numbers with 11 binary digits; of two that are as near, the even one."""
    fraction, exponent = torch.frexp(value.double())
    return torch.ldexp((fraction * 2**11).round(), exponent - 11).to(value.dtype)
