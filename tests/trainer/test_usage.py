import time

import pytest
import torch

from tests.ranks import run_on_ranks
from trainer.runtime import Runtime
from trainer.usage import Usage


def usage_of_two(rank: int, world_size: int) -> dict[str, float]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    usage = Usage(runtime)
    usage.measure()
    held = torch.ones(50_000_000, dtype=torch.uint8) if rank == 1 else None
    started = time.process_time()
    if rank == 0:
        time.sleep(0.6)  # it would wait for the other one with its processor busy
    while rank == 1 and time.process_time() < started + 0.5:
        pass
    measured = usage.measure()
    del held
    return measured


@pytest.mark.slow
def test_all_ranks_know_what_each_uses():
    first, second = run_on_ranks(2, usage_of_two)
    assert first == second
    assert first["usage/rank_1/cores"] > 2 * first["usage/rank_0/cores"]
    assert first["usage/rank_1/memory_mb"] > first["usage/rank_0/memory_mb"] + 30
