"""Rows between ranks: through shared memory and through the process group, whichever is there."""

import errno
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import embedding.exchange
import embedding.shared_memory
from embedding.exchange import add_over_ranks, deliver_rows, fetch_rows, plan_route, share_memory
from graph.errors import InputError
from tests.ranks import run_on_ranks

ROWS, BLOCK = 20, 7  # the last of three ranks owns 6


def there_and_back(rank: int) -> list[Tensor]:
    """A few exchanges in which each rank wants other rows, the last rank sometimes none."""
    weight = torch.arange(ROWS * 3, dtype=torch.float32).view(ROWS, 3)[rank * BLOCK :][:BLOCK]
    found = []
    for turn in range(5):
        generator = torch.Generator().manual_seed(10 * turn + rank)
        wanted = torch.randperm(ROWS, generator=generator)[: (0 if rank == turn % 3 else 9)].sort().values
        route = plan_route(wanted, BLOCK)
        rows = fetch_rows(weight, route)
        assert rows.equal(torch.stack([wanted * 3, wanted * 3 + 1, wanted * 3 + 2], dim=1).float())
        found += [rows, route.local_row, deliver_rows(rows.double() * (rank + 1), route)]
        found += [add_over_ranks(torch.arange(turn * 4) * (rank + 1)), add_over_ranks(torch.tensor(0.5 * rank))]
    return found


def both_ways(rank: int, world_size: int, half: int) -> dict[str, Any]:
    embedding.shared_memory._HALF = half
    share_memory(20)
    assert embedding.exchange._shared is not None
    shared = there_and_back(rank)
    exchanges, embedding.exchange._shared = embedding.exchange._shared.exchanges, None
    return {"shared": shared, "sockets": there_and_back(rank), "exchanges": exchanges}


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
@pytest.mark.parametrize("half", [1 << 16, 160])  # in 160 bytes only some of the exchanges find room
def test_shared_memory_carries_what_sockets_carry(half: int):
    for result in run_on_ranks(3, both_ways, half):
        assert result["exchanges"] == 5 * 5
        for mine, theirs in zip(result["shared"], result["sockets"], strict=True):
            assert mine.equal(theirs)
        assert result["shared"][4] == 0.5 * (0 + 1 + 2)


def no_file_is_left(rank: int, world_size: int) -> list[str]:
    dist.barrier()
    return [path.name for path in Path("/dev/shm").glob("advkge-*")]


def test_nothing_is_left_of_the_shared_files():
    before = {path.name for path in Path("/dev/shm").glob("advkge-*")}
    for names in run_on_ranks(2, no_file_is_left):
        assert set(names) <= before


def without_a_rank(rank: int, world_size: int) -> tuple[str, float]:
    """Rank 1 is killed by rank 0, which then waits for it."""
    process: list[int] = [0, 0]
    dist.all_gather_object(process, os.getpid())
    share_memory(20)
    shared = embedding.exchange._shared
    assert shared is not None
    if rank == 1:  # waits longer than the test: rank 0 must not wait for the end of this
        child = os.fork()
        if child == 0:
            time.sleep(60)
        dist.broadcast(torch.tensor([child]), 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        dist.barrier()
        return "", 0.0
    number = torch.zeros(1, dtype=torch.int64)
    dist.broadcast(number, 1)
    shared._process[1] = number[0]
    dist.barrier()
    started = time.monotonic()
    with pytest.raises(InputError) as error:
        shared.all_to_all(torch.zeros(0, 2), [0, 0])
    return str(error.value), time.monotonic() - started


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
def test_a_rank_that_died_is_named_at_once():
    message, seconds = run_on_ranks(2, without_a_rank)[0]
    assert message == "rank 1 has died or did not come to an exchange within 20 seconds"
    assert seconds < 5


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def without_room(rank: int, world_size: int) -> list[str]:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.posix_fallocate = full
    handler = Lines()
    logging.getLogger("embedding.shared_memory").addHandler(handler)
    share_memory(20)
    assert embedding.exchange._shared is None
    there_and_back(rank)
    return handler.lines


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
def test_no_room_is_said_once_and_sockets_are_used():
    first, second, third = run_on_ranks(3, without_room)
    assert first == ["no room in /dev/shm for ranks to share memory: they exchange rows through sockets"]
    assert second == third == []
