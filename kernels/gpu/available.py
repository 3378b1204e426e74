"""Whether tensors are on a GPU, and whether Triton's kernels can take them."""

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_DEVICE = "cuda"
_TYPES = (torch.float32, torch.float64, torch.int64)
_OLDEST = (8, 0)
"""The compute capability of the first GPUs that the kernels are compiled for in tests (A100)."""


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is on a GPU, where the host should not wait to read it."""
    return tensor.device.type == _DEVICE


def usable_on_gpu(*tensors: Tensor) -> bool:
    """Whether kernels can take these tensors: Triton is installed; they are float32, float64 or int64 on a new GPU."""
    fitting = all(is_on_gpu(each) and each.dtype in _TYPES for each in tensors)
    return fitting and has_triton() and all(_is_new(each.device) for each in tensors)


@cache
def has_triton() -> bool:
    """Whether Triton is installed; warns once if it is not."""
    if importlib.util.find_spec("triton") is None:
        log.warning("Triton is not installed: plain torch is used on the GPU, which is slower (pip install triton)")
        return False
    return True


@cache
def _is_new(device: torch.device) -> bool:
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < _OLDEST:
        log.warning(
            "%s is not an NVIDIA GPU of compute capability %d.%d or later: plain torch is used", device, *_OLDEST
        )
        return False
    return True
