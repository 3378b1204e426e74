"""Large tables are kept in huge pages where the system has them."""

import ctypes
import mmap
from pathlib import Path

import pytest
import torch

from embedding.table import EmbeddingTable
from graph.partition import EntityPlacement

_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_bytes(address: int) -> int:
    """The bytes in huge pages of the part of this process's memory that has the address, as the kernel says."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, stop = (int(word, 16) for word in words[0].split("-"))
            inside = start <= address < stop
        elif inside and words[0] == "AnonHugePages:":
            return 1024 * int(words[1])
    raise AssertionError("no such address")


def has_room_for_huge_pages(size: int) -> bool:
    """Whether memory that asks for huge pages gets them now: free memory may be in pieces too small for them."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory.write(b"1" * size)
        first = ctypes.c_char.from_buffer(memory)
        found = huge_bytes(ctypes.addressof(first) + size // 2)
        del first
    return found > size / 2


@pytest.mark.skipif(not _SWITCH.exists() or "[never]" in _SWITCH.read_text(), reason="this system has no huge pages")
def test_a_large_table_and_its_state_are_in_huge_pages():
    count, width = 100_000, 128
    if not has_room_for_huge_pages(4 * count * width):
        pytest.skip("no free huge pages now")
    table = EmbeddingTable(
        "entity",
        EntityPlacement.from_order(torch.arange(count)),
        width,
        rank=0,
        world_size=1,
        initial=None,
        seed=0,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    for rows in (table.weight, table.new_rows(width)):
        rows.fill_(1.0)
        assert huge_bytes(rows[count // 2].data_ptr()) > rows.nbytes / 2
