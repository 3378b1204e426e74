"""Huge pages for large tables, on Linux."""

import ctypes
import mmap
import sys
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

_PAGE = 1 << 21
_SMALLEST = 16 * _PAGE
"""Bytes below which small pages do: the processor remembers where a few thousand of them are."""


def ask_for_huge_pages(rows: Shaped[Tensor, "L D"]) -> None:
    """Asks Linux to keep new memory that nothing has been written to in pages of 2 MB instead of 4 kB.

    A step reads rows all over the table. With small pages, the processor looks up where a page lies for almost every
    row: rows of a table of 2.5 GB were read at half the speed.

    It is no more than a wish. A system that has no huge pages, or has none left, goes on with small ones.
    """
    if sys.platform != "linux" or rows.device.type != "cpu" or rows.nbytes < _SMALLEST:
        return
    first = -(-rows.data_ptr() // _PAGE) * _PAGE
    length = (rows.data_ptr() + rows.nbytes - first) // _PAGE * _PAGE
    library: Any = ctypes.CDLL(None)
    library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
