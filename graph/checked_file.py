"""Tensors in one safetensors file with a stamp and a checksum. Loading it maps the file and executes no code."""

import contextlib
import json
import logging
import os
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_KEY = "advkge_graph"
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
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")  # ranks of one run may write at the same time
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # kernels are loaded from a folder below it
        save_file(tensors, partial, {_KEY: json.dumps(kept)})
        os.replace(partial, file)
        return True
    except (OSError, SafetensorError) as error:
        _log.warning("%s %s cannot be written (%s): the next run makes it again", what, file, error)
        with contextlib.suppress(OSError):
            partial.unlink()
        return False


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """A number that depends on the names, types, shapes and contents of the tensors."""
    total = 0
    for key, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().numpy().data, total)
    return total
