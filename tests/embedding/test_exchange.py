"""Rows between ranks: through shared memory and through the process group, whichever is there."""

import errno
import logging
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import embedding.exchange
import embedding.shared_memory
import embedding.shared_regions
from embedding.exchange import (
    add_over_ranks,
    bytes_sent,
    deliver_parts,
    deliver_rows,
    fetch_rows,
    gather_ranks,
    plan_route,
    room_to_deliver,
    share_memory,
)
from embedding.lost_rank import LostRankError
from embedding.shared_memory import SharedMemory
from kernels.library import call
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
        found += gather_ranks(torch.full((turn * rank, 2), rank), 3)
    return found


def both_ways(rank: int, world_size: int, half: int) -> dict[str, Any]:
    embedding.shared_regions._MOST, embedding.shared_regions._LEAST = 64 + 2 * half, 0
    share_memory(20)
    assert embedding.exchange._shared is not None
    shared, sent = there_and_back(rank), bytes_sent()
    exchanges, embedding.exchange._shared = embedding.exchange._shared.exchanges, None
    sockets = there_and_back(rank)
    return {"shared": shared, "sockets": sockets, "exchanges": exchanges, "sent": [sent, bytes_sent() - sent]}


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
@pytest.mark.parametrize("half", [1 << 16, 192])  # in 192 bytes only some of the exchanges find room
def test_shared_memory_carries_what_sockets_carry(half: int):
    for result in run_on_ranks(3, both_ways, half):
        assert result["exchanges"] == 5 * 6
        assert result["sent"][0] == result["sent"][1] > 0
        for mine, theirs in zip(result["shared"], result["sockets"], strict=True):
            assert mine.equal(theirs)
        assert result["shared"][4] == 0.5 * (0 + 1 + 2)


def bytes_of_a_fetch(rank: int, world_size: int) -> list[int]:
    """Rank 0 wants two rows of its own and three of rank 1, which wants none; then their gradients go back."""
    share_memory(20)
    weight, sent = torch.zeros(5, 4), [bytes_sent()]
    route = plan_route(torch.tensor([0, 1, 5, 6, 7]) if rank == 0 else torch.arange(0), 5)
    sent.append(bytes_sent())
    fetch_rows(weight, route)
    sent.append(bytes_sent())
    deliver_parts(room_to_deliver((5 if rank == 0 else 0, 4), torch.float64, weight.device), route)
    sent.append(bytes_sent())
    add_over_ranks(torch.ones(3, dtype=torch.float64))
    sent.append(bytes_sent())
    return [after - before for before, after in pairwise(sent)]


@pytest.mark.slow
def test_bytes_to_other_ranks_are_counted():
    first, second = run_on_ranks(2, bytes_of_a_fetch)
    assert first == [3 * 8, 0, 3 * 4 * 8, 3 * 8]  # ids, rows, gradients, sums
    assert second == [0, 3 * 4 * 4, 0, 3 * 8]


def parts_of(rank: int, world_size: int, in_room: bool) -> list[Tensor]:
    """The sums that arrive, from memory that is shared already or from elsewhere, after others were sent before."""
    share_memory(20)
    weight, found = torch.zeros(BLOCK, 2), []
    for turn in range(4):
        wanted = torch.arange((rank + turn) % 3, ROWS, 3)
        route = plan_route(wanted, BLOCK)
        fetch_rows(weight, route)
        shape = len(wanted), 2
        value = room_to_deliver(shape, torch.float64, weight.device) if in_room else torch.empty(shape).double()
        value.copy_(wanted[:, None] + 100 * rank)
        parts = deliver_parts(value, route)
        assert torch.cat([row for row, _ in parts]).equal(route.local_row)
        found += [torch.cat([part for _, part in parts]), route.local_row]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("in_room", [True, False])
def test_what_is_delivered_in_parts_is_of_the_rows_that_were_asked_for(in_room: bool):
    for rank, found in enumerate(run_on_ranks(3, parts_of, in_room)):
        for value, row in zip(found[::2], found[1::2], strict=True):
            entity, sender = value[:, 0] % 100, value[:, 0] // 100
            assert entity.equal(row.double() + rank * BLOCK)
            assert sender.equal(sender.sort().values)
            assert len(row) > 0


def with_delays(rank: int, world_size: int) -> list[Tensor]:
    """Each rank stops for a while, another while each time, where the others could read too early or write too soon."""
    share_memory(20)
    assert embedding.exchange._shared is not None
    calls = 0

    def slow_call(name: str, *arguments: Any) -> int:
        nonlocal calls
        calls += 1
        pause = 0.002 * ((calls + rank) % 3)
        time.sleep(pause)  # what was written is not published yet; or waiting begins late
        result = call(name, *arguments)
        time.sleep(pause)  # published, were the writes still to come; or others go on before this rank has read
        return result

    embedding.shared_memory.call = slow_call
    return there_and_back(rank)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")  # ranks share memory by a kernel
def test_ranks_that_are_slow_at_any_place_read_the_same():
    for rank, found in enumerate(run_on_ranks(3, with_delays)):
        assert found[3].equal(torch.arange(0))
        last = found[-8:]
        assert last[3].equal(torch.arange(16) * 6), rank
        assert last[4] == 1.5
        assert [len(rows) for rows in last[5:]] == [0, 4, 8]
        assert all(rows.eq(number).all() for number, rows in enumerate(last[5:]))


def comes_late(rank: int, world_size: int) -> tuple[float, str, float]:
    """Rank 1 comes a second late, which is in time, and then not at all until rank 0 has given up."""
    share_memory(2)
    dist.barrier()
    if rank == 1:
        time.sleep(1)
    before = time.process_time()
    add_over_ranks(torch.ones(3))
    worked = time.process_time() - before
    message, started = "", time.monotonic()
    if rank == 0:
        with pytest.raises(LostRankError) as error:
            add_over_ranks(torch.ones(3))
        message = str(error.value)
    seconds = time.monotonic() - started
    dist.barrier()
    return worked, message, seconds


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")  # ranks share memory by a kernel
def test_a_late_rank_is_waited_for_without_load_and_then_named():
    (worked, message, seconds), _ = run_on_ranks(2, comes_late)
    assert worked < 0.3
    assert message == (
        "rank 1 did not take part in an exchange within 2 seconds (launch.timeout_seconds): it hangs, or has much "
        "more to do than the others"
    )
    assert 2 <= seconds < 4


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
    with pytest.raises(LostRankError) as error:
        shared.all_to_all(torch.zeros(0, 2), [0, 0])
    return str(error.value), time.monotonic() - started


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
def test_a_rank_that_died_is_named_at_once():
    message, seconds = run_on_ranks(2, without_a_rank)[0]
    assert message == "rank 1 has died"
    assert seconds < 5


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def sizes_of(rank: int, world_size: int, free: int, fails: bool) -> tuple[list[int], list[str]]:
    """Bytes of the halves of all regions where so much is free, and what was logged."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    embedding.shared_regions._free = lambda: free
    os.posix_fallocate = full if fails else os.posix_fallocate
    handler = Lines()
    logging.getLogger("embedding.shared_regions").addHandler(handler)
    share_memory(20)
    shared = embedding.exchange._shared
    there_and_back(rank)
    assert isinstance(shared, SharedMemory | None)
    return [] if shared is None else [region.half for region in shared.regions], handler.lines


@pytest.mark.usefixtures("compiled")
@pytest.mark.slow
@pytest.mark.parametrize(("free", "half"), [(1 << 34, 64 << 20), (64 << 20, 8 << 20)])
def test_regions_take_three_quarters_of_what_is_free_and_no_more_than_they_need(free: int, half: int):
    for sizes, lines in run_on_ranks(3, sizes_of, free, False):
        assert len(sizes) == 3
        assert all(half - 128 <= size <= half for size in sizes)
        assert not lines


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")  # ranks share memory by a kernel
@pytest.mark.parametrize(("free", "fails"), [(1 << 20, False), (1 << 30, True)])
def test_no_room_is_said_once_and_sockets_are_used(free: int, fails: bool):
    first, *others = run_on_ranks(3, sizes_of, free, fails)
    said = "ranks can't share memory in /dev/shm (No space left on device): they use slower sockets"
    assert first == ([], [said])
    assert others == [([], []), ([], [])]
