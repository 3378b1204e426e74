"""Writes files of a checkpoint safely to disk, and reads files that may be damaged or come from someone else."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from graph.errors import InputError

_DTYPES = ("BF16", "F32", "F64", "I32", "I64", "BOOL")
_LARGEST_DIMENSION = 1 << 48  # larger ones, of tensors without elements, overflow in torch


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and waits until it is on the disk, with the names in its folder."""
    temporary = path.with_suffix(".partial")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file and checks the types and sizes of its tensors.

    Raises:
        InputError: the file is damaged, or a tensor has a type or size that no checkpoint has.
    """
    try:
        with safe_open(path, framework="pt") as saved:
            for key in saved.keys():  # noqa: SIM118 (not a dict)
                described = saved.get_slice(key)
                dtype, shape = described.get_dtype(), described.get_shape()
                if dtype not in _DTYPES or max(shape, default=0) > _LARGEST_DIMENSION:
                    raise InputError(f"{path} is damaged: no checkpoint holds {shown(key)} of {dtype} {shown(shape)}")
            yield saved
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def is_file(path: Path) -> bool:
    """Whether the path is a file; False for impossible paths too, such as one of 5,000 characters."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_small_file(path: Path, *, most_bytes: int) -> bytes:
    """The content of a file with at most `most_bytes` bytes.

    Raises:
        InputError: the file is missing, not a regular file, too large, or cannot be read.
    """
    if not is_file(path):
        raise InputError(f"{path} is missing")
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise InputError(f"{path} is damaged: it has more than {most_bytes} bytes")
    return content


def read_json(path: Path, *, most_bytes: int = 1 << 22) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: as for `read_small_file`, or the content is not JSON.
    """
    content = read_small_file(path, most_bytes=most_bytes)
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InputError(f"{path} is damaged: it is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error


def shown(value: Any) -> str:
    """A value read from a file, shortened to one line for an error message."""
    if isinstance(value, dict | list) and len(value) > 8:
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether a path is inside a folder once all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def digest_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON values; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify(path: Path, digest: str) -> None:
    """Raises InputError unless a checkpoint's file exists, is no link to elsewhere, and has this SHA-256."""
    if not is_file(path):
        raise InputError(f"{path.parent} is damaged: {path.name} is missing")
    if not lies_inside(path, path.parent):
        raise InputError(f"{path} is a link to a file outside of its checkpoint, which is not followed")
    try:
        found = digest_of_file(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    if found != digest:
        raise InputError(f"{path} is damaged: its content does not have the SHA-256 of manifest.json")
