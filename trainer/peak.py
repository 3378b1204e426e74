"""Peak memory of a process or a GPU."""

from pathlib import Path

import torch


def peak_mb() -> float:
    """The peak resident memory of this process in MB (millions of bytes); Linux only."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def device_peak_mb(device: torch.device) -> float:
    """The peak memory in MB: that of the GPU if `device` is one, else that of this process."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_mb()
