"""Memory of a process, a machine or a GPU."""

from pathlib import Path

import torch


def peak_mb() -> float:
    """The peak resident memory of this process in MB (millions of bytes); Linux only."""
    return _status_mb("VmHWM")


def device_peak_mb(device: torch.device) -> float:
    """The peak memory in MB: that of the GPU if `device` is one, else that of this process."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_mb()


def device_memory_mb(device: torch.device) -> float:
    """The memory now in use in MB: on the GPU if `device` is one, else of this process."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmRSS")


def _status_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6
