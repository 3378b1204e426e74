"""Gives pages of files that are mapped into memory back to the system."""

import ctypes
import mmap
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor


def forget_pages(tensors: Iterable[Shaped[Tensor, "..."]]) -> None:
    """Takes the pages of tensors that are mapped from files out of this process; other tensors stay as they are.

    Whoever has read a whole file once, to check it or to count, holds all of its pages from then on. Once forgotten,
    they are the system's: its page cache keeps them while there is memory, and a tensor that is read again gets them
    from there, or from the file. Nothing may have been written to the tensors.
    """
    if sys.platform != "linux":
        return
    mapped = [(begin, end) for begin, end, path in _mappings() if path.startswith("/")]
    library: Any = ctypes.CDLL(None)
    for tensor in tensors:
        begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        # Memory that no file stands behind would be lost.
        if begin < end and any(first <= begin and end <= last for first, last in mapped):
            library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _mappings() -> Iterable[tuple[int, int, str]]:
    """Where each mapping of this process begins and ends, and the file behind it, or "" or "[heap]" and the like."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, _, *path = line.split(maxsplit=5)
        begin, end = (int(address, 16) for address in addresses.split("-"))
        yield begin, end, path[0] if path else ""
