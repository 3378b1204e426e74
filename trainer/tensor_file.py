"""Writes safetensors files a block at a time, at once or in two parts, of which the second can wait for the disk."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

_TYPES = {
    **{torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"},
    **{torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL"},
}
_BLOCK_BYTES = 1 << 23
_ALIGNMENT = 8


class TensorFile:
    """A safetensors file to be written: by `write`, or by `hand_over` and then `finish`.

    The format is the length of the header, the header, which is JSON, and the bytes of the tensors. The file is the one
    that safetensors would write. We write it ourselves because one pass over the bytes then gives the SHA-256 too, and
    because `finish`, which a thread may call, then has only Python's own functions: the process may end at any moment.

    Args:
        path: where it will be.
        tensors: of the types of `_TYPES`. They must stay as they are until `write` or `hand_over` has returned. Those
            on a GPU, or not contiguous, are copied.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path = path
        # The widest types first, as safetensors does, so that every tensor begins at a multiple of its width.
        order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
        kept = {name: tensors[name].detach().cpu().contiguous() for name in order}
        described, end = {}, 0
        for name, tensor in kept.items():
            begin, end = end, end + tensor.nbytes
            described[name] = {
                "dtype": _TYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
        header = json.dumps(described, separators=(",", ":")).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        self._parts = [
            memoryview(len(header).to_bytes(8, "little") + header),
            *(tensor.reshape(-1).view(torch.uint8).numpy().data for tensor in kept.values()),
        ]

    def write(self) -> str:
        """Writes the file and waits until it is on the disk; returns its SHA-256 as 64 hex digits. Call it once.

        Raises:
            OSError: it can't be written.
        """
        digest = hashlib.sha256()
        with self.path.open("wb", buffering=0) as file:
            for block in self._blocks():
                digest.update(block)
                _write_all(file, block)
            os.fsync(file.fileno())
        return digest.hexdigest()

    def hand_over(self) -> None:
        """Gives the file's bytes to the system, which keeps them in its page cache and writes them later. Call it once.

        The system waits for the disk only if it holds too much that is not written yet: under Linux, a fifth of the
        memory that is free (vm.dirty_ratio).

        Raises:
            OSError: it can't be written.
        """
        with self.path.open("wb", buffering=0) as file:
            for block in self._blocks():
                _write_all(file, block)

    def finish(self) -> str:
        """Waits until what was handed over is on the disk; returns the file's SHA-256 as 64 hex digits.

        Other threads go on meanwhile: waiting for the disk, reading and hashing do not need Python's lock.

        Raises:
            OSError: it can't be written, or not be read.
        """
        with self.path.open("rb", buffering=0) as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _blocks(self) -> Iterator[memoryview]:
        while self._parts:
            part = self._parts.pop(0)  # so that a copy of tensors is given back as soon as it is written
            for start in range(0, len(part), _BLOCK_BYTES):
                yield part[start : start + _BLOCK_BYTES]


def _write_all(file: io.FileIO, block: memoryview) -> None:
    while len(block):  # the system may write less than it is given
        block = block[file.write(block) :]
