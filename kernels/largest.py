"""The largest numbers of each row."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.gpu.available import is_on_gpu


def largest(value: Float[Tensor, "B M"], count: int) -> Int64[Tensor, "B {count}"]:
    """The columns of the `count` largest numbers of each row, the largest first.

    Of equal ones, `topk` takes and orders any. Where a GPU must be repeatable (`trainer.deterministic`), rows are
    sorted, and equal numbers keep their order.
    """
    if is_on_gpu(value) and torch.are_deterministic_algorithms_enabled():
        return value.sort(dim=1, descending=True, stable=True).indices[:, :count].contiguous()
    return value.topk(count, dim=1).indices
