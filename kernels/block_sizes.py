"""How much is computed at a time: on a CPU what its cache holds, on a GPU what its memory holds."""

from functools import cache

import torch

_MOST_ON_GPU = 1 << 28
"""Numbers: 1 GB of float32. A kernel that handles so many runs for long compared with the time that it takes to launch
it, so more would save nothing; and as the bound is mostly this one, results do not depend on what is free."""
_SHARE_OF_FREE = 16
"""A block and what is computed from it, in float64, take about as many times a block of float32."""


def numbers_at_a_time(on_cpu: int, device: torch.device) -> int:
    """The most numbers of a block of an intermediate result, such as scores.

    Args:
        on_cpu: what a CPU takes at a time.
    """
    return on_cpu if device.type == "cpu" else max(on_cpu, _of_gpu(device))


def rows_at_a_time(on_cpu: int, device: torch.device, row_numbers: int) -> int:
    """The most rows of a block whose rows have `row_numbers` numbers each.

    Args:
        on_cpu: the rows that a CPU takes at a time.
    """
    return on_cpu if device.type == "cpu" else max(on_cpu, _of_gpu(device) // max(1, row_numbers))


@cache
def _of_gpu(device: torch.device) -> int:
    """Looked up once, when the tables of a run are there: to ask takes longer than a kernel."""
    free, _ = torch.cuda.mem_get_info(device)
    return min(_MOST_ON_GPU, free // (4 * _SHARE_OF_FREE))
