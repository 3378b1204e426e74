"""Numbers that are appended piece by piece: in memory while they are few, else in a file that is mapped in the end."""

import io
import mmap
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from graph.errors import InputError

_IN_MEMORY = 1 << 25
"""Bytes that stay in memory."""
_BLOCK_BYTES = 1 << 25
"""Bytes that are read or written again at a time."""


class Growing:
    """Rows of numbers that are appended, and may be changed a block at a time.

    The file has no name: its room is free again when nobody maps it any more, however the process ends.

    Args:
        folder: where the file is, which must exist; None: where the system has its temporary files.
        dtype: of the numbers.
        width: numbers a row.
    """

    def __init__(self, folder: Path | None, dtype: type[np.number], width: int = 1) -> None:
        self.dtype, self.width = np.dtype(dtype), width
        self._row_bytes = self.dtype.itemsize * width
        self._folder = folder
        self._file: Any = io.BytesIO()
        self._size = 0

    def __len__(self) -> int:
        """The number of rows."""
        return self._size // self._row_bytes

    def append(self, rows: np.ndarray) -> None:
        """Adds rows at the end. Raises InputError if the disk has no room for them."""
        self._write(self._size, np.ascontiguousarray(rows, dtype=self.dtype))

    def write(self, first: int, rows: np.ndarray) -> None:
        """Puts rows in the place of those from `first` on, or behind the end. Raises InputError as `append`."""
        self._write(first * self._row_bytes, np.ascontiguousarray(rows, dtype=self.dtype))

    def read(self, first: int, count: int) -> np.ndarray:
        """A copy of these rows: [count, width], or [count] of width 1."""
        self._file.seek(first * self._row_bytes)
        rows = np.frombuffer(bytearray(self._file.read(count * self._row_bytes)), dtype=self.dtype)
        return rows if self.width == 1 else rows.reshape(-1, self.width)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Copies of all rows, a block at a time, and the number of the first of them."""
        count = max(_BLOCK_BYTES // self._row_bytes, 1)
        for first in range(0, len(self), count):
            yield first, self.read(first, min(count, len(self) - first))

    def tensor(self) -> Shaped[Tensor, "..."]:
        """All rows; of a file they are mapped, so they can leave the memory."""
        if isinstance(self._file, io.BytesIO):
            rows = torch.from_numpy(self.read(0, len(self)))
        else:
            self._file.flush()
            rows = mapped(self._file.fileno(), self.dtype)
        return rows if self.width == 1 else rows.view(-1, self.width)

    def _write(self, place: int, rows: np.ndarray) -> None:
        try:
            if isinstance(self._file, io.BytesIO) and place + rows.nbytes > _IN_MEMORY:
                small, self._file = self._file, tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
                self._file.write(small.getbuffer())
            self._file.seek(place)
            self._file.write(rows.reshape(-1).data)
        except OSError as error:
            folder = "the temporary folder (TMPDIR)" if self._folder is None else f"graph.cache: {self._folder}"
            raise InputError(
                f"{folder} can't take {(place + rows.nbytes) / 1e9:.2g} GB of triples: {error.strerror}"
            ) from error
        self._size = max(self._size, place + rows.nbytes)


def mapped(file: int, dtype: np.dtype) -> Shaped[Tensor, " N"]:
    """The numbers in an open file, which must not be empty, mapped into memory."""
    # Private and writable, because torch warns of tensors that can't be written; nobody writes to it.
    content = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return torch.from_numpy(np.frombuffer(content, dtype=dtype))
