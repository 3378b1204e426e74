"""What each rank uses of its machine."""

import time

import torch

from trainer.peak import device_memory_mb
from trainer.runtime import Runtime


class Usage:
    """Measures processor time and memory of all ranks between two calls."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._last = time.perf_counter(), time.process_time()

    def measure(self) -> dict[str, float]:
        """For each rank: cores in use since the last call, and memory in MB (of its GPU, if it has one). Collective.

        Names are as in `usage/rank_1/cores` and `usage/rank_1/memory_mb`.
        """
        now = time.perf_counter(), time.process_time()
        cores = (now[1] - self._last[1]) / max(now[0] - self._last[0], 1e-9)
        self._last = now
        table = torch.zeros(self.runtime.world_size, 2, dtype=torch.float64, device=self.runtime.device)
        table[self.runtime.rank] = table.new_tensor([cores, device_memory_mb(self.runtime.device)])
        return {
            f"usage/rank_{rank}/{name}": value
            for rank, values in enumerate(self.runtime.add(table).tolist())
            for name, value in zip(("cores", "memory_mb"), values, strict=True)
        }
