"""Large tables are kept in huge pages where the system has them."""

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


@pytest.mark.skipif(not _SWITCH.exists() or "[never]" in _SWITCH.read_text(), reason="this system has no huge pages")
def test_a_large_table_and_its_state_are_in_huge_pages():
    count, width = 100_000, 128
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
