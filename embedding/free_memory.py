"""Memory that is still free."""

import os
from pathlib import Path

import torch


def free_memory() -> int:
    """Bytes that this process and others of its machine, or of its container, can still take. Linux only."""
    meminfo = Path("/proc/meminfo").read_text()
    line = next(line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    free = [int(line.split()[1]) * 1024]
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").is_file() and (most := (group / "memory.max").read_text().strip()) != "max":
        # Pages of files that nobody uses, such as those of a checkpoint that was written, are counted as used.
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(counts["inactive_file"])
        free.append(int(most) - used)
    return min(free)


def free_for_a_rank(device: torch.device) -> int:
    """Bytes that each rank can still take: of its GPU, or an equal share of its machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
