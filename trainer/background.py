"""Decides whether training goes on while the disk takes a checkpoint."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.runtime import Runtime

LEAST_BYTES = 64 << 20
"""Less than this on a rank is written within a fraction of a second, and not worth a thread."""


def worth_a_thread(files: Mapping[str, Mapping[str, Tensor]], runtime: Runtime) -> bool:
    """Whether any rank has enough to save. All ranks get the same answer. Collective."""
    size = sum(value.nbytes for tensors in files.values() for value in tensors.values())
    # Of any rank, because blocks of rows differ by one row.
    large = torch.tensor([size >= LEAST_BYTES], dtype=torch.float64, device=runtime.device)
    return bool(runtime.add(large).item() > 0)
