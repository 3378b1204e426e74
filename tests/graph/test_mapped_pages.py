"""Pages of mapped files are given back, and nothing else is."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from graph.checked_file import load_checked, save_checked
from graph.mapped_pages import forget_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
NUMBERS = 1 << 20


def resident(tensor: Tensor) -> int:
    """Bytes of the mapping that a tensor lies in that this process holds."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    inside = False
    for line in lines:
        word = line.split()[0]
        if not word.endswith(":"):
            begin, end = (int(address, 16) for address in word.split("-"))
            inside = begin <= tensor.data_ptr() < end
        elif inside and word == "Rss:":
            return 1024 * int(line.split()[1])
    raise AssertionError("it lies nowhere")


def mapped(folder: Path) -> Tensor:
    """A tensor of 8 MB that is mapped from a file."""
    wanted = {"numbers": torch.arange(NUMBERS)}
    assert save_checked(folder / "file", wanted, None, "stamp", "file")
    loaded = load_checked(folder / "file", "stamp", "file")
    assert loaded is not None
    return loaded[0]["numbers"]


def test_what_was_read_is_forgotten_and_read_again(tmp_path: Path):
    numbers = mapped(tmp_path)
    expected = NUMBERS * (NUMBERS - 1) // 2
    assert int(numbers.sum()) == expected
    assert resident(numbers) > 7 * NUMBERS
    forget_pages([numbers])
    assert resident(numbers) < NUMBERS
    assert int(numbers.sum()) == expected


def test_a_file_that_was_checked_is_not_held(tmp_path: Path):
    assert resident(mapped(tmp_path)) < NUMBERS  # its checksum was read from all of it


def test_memory_without_a_file_stays_as_it_is():
    numbers = torch.arange(NUMBERS)
    forget_pages([numbers, torch.empty(0), torch.ones(3)])
    assert numbers.equal(torch.arange(NUMBERS))
