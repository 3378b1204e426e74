"""The most memory that a process has held."""

from pathlib import Path

import torch


def peak_mb() -> float:
    """The largest resident memory of this process so far, in millions of bytes; Linux alone tells."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def device_peak_mb(device: torch.device) -> float:
    """The same of the device that tensors are on: a GPU's own memory, or this process's."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_mb()
