"""Tensors in one safetensors file with a stamp and a checksum. Loading it maps the file and executes no code."""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from graph.whole_file import whole_file

_KEY = "advkge_graph"
_TYPES = {torch.int64: ("I64", 3), torch.int32: ("I32", 2), torch.uint8: ("U8", 1)}
"""The types that are kept: their names in the file, and their place in it, larger numbers first."""
_BLOCK = 1 << 22
"""Numbers that are written at a time."""
_log = logging.getLogger("advkge")


def load_checked(file: Path, stamp: str, what: str) -> tuple[dict[str, Tensor], Any] | None:
    """The tensors, memory-mapped, so that the ranks of a machine share them, and what was kept beside them.

    None if the file is missing or has another stamp, or, with a warning, if it is damaged.

    Args:
        stamp: text that identifies what the tensors were made from.
        what: what the file is, for the log, such as "graph cache".
    """
    try:
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as stored:
            kept = json.loads((stored.metadata() or {})[_KEY])
            if kept["stamp"] != stamp:
                _log.info("%s %s was made from other sources: making it again", what, file)
                return None
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (safe_open is no mapping)
        if kept["checksum"] != checksum(tensors):
            raise ValueError("its checksum does not fit its content")
        return tensors, kept["beside"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.warning("%s %s is damaged (%s): making it again", what, file, error)
        return None


def save_checked(file: Path, tensors: dict[str, Tensor], beside: Any, stamp: str, what: str) -> bool:
    """Writes the file atomically; whether it could. If not, it logs a warning and the run goes on without the file.

    Args:
        beside: what is kept beside the tensors, as json.
    """
    kept = {"stamp": stamp, "checksum": checksum(tensors), "beside": beside}
    try:
        _make(file.parent)
        with whole_file(file) as opened:
            save_file(tensors, opened, {_KEY: json.dumps(kept)})
        return True
    except OSError as error:
        _log.warning("%s %s cannot be written (%s): the next run makes it again", what, file, error)
        return False


def writable_folder(folder: Path) -> Path | None:
    """A folder of caches, made if it is missing; None if nothing can be written there, which `save_checked` tells."""
    with contextlib.suppress(OSError):
        _make(folder)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # for its user alone: kernels are loaded from a folder below


def save_file(tensors: Mapping[str, Tensor], file: BinaryIO, metadata: Mapping[str, str]) -> None:
    """Writes the bytes that safetensors.torch.save_file would write, a block at a time.

    That one copies a tensor before it writes it, which a train split as large as memory does not allow.
    """
    order = sorted(tensors, key=lambda name: (-_TYPES[tensors[name].dtype][1], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": _TYPES[tensor.dtype][0],
            "shape": list(tensor.shape),
            "data_offsets": [place, place := place + tensor.nbytes],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        flat = tensors[name].contiguous().view(-1)
        for first in range(0, len(flat), _BLOCK):
            file.write(flat[first : first + _BLOCK].numpy().data)


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """A number that depends on the names, types, shapes and contents of the tensors."""
    total = 0
    for key, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().numpy().data, total)
    return total
