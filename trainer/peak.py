"""Memory of a process, a machine or a GPU."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def peak_mb() -> float:
    """The peak resident memory of this process in MB (millions of bytes); Linux only."""
    return _status_mb("VmHWM")


def device_peak_mb(device: torch.device) -> float:
    """The peak memory in MB: that of the GPU if `device` is one, else that of this process."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_mb()


def device_memory_mb(device: torch.device) -> float:
    """The memory now in use in MB: on the GPU if `device` is one, else of this process."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmRSS")


def bytes_in_files(tensors: Sequence[Tensor]) -> int:
    """Bytes of those tensors that are mapped from files: the system reads and drops them as it likes. Linux only."""
    mapped: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, inode, *_ = line.split()
        if inode != "0":  # that of memory without a file
            first, stop = addresses.split("-")
            mapped.append((int(first, 16), int(stop, 16)))
    starts = [first for first, _ in mapped]
    total = 0
    for tensor in tensors:
        before = bisect_right(starts, tensor.data_ptr()) - 1
        if before >= 0 and tensor.data_ptr() < mapped[before][1]:
            total += tensor.nbytes
    return total


def _status_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6
