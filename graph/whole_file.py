"""Files that are there whole or not at all, and that leave nothing behind if the process dies while it writes them."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """A new file, to write and to read, which takes the place of `file` if the block ends without an error.

    Several processes may make the same one at a time: the last to end stays. Where the system can, the file has no name
    before, so that its room is free again if the process is killed.

    Raises:
        OSError: it can't be written.
    """
    partial = file.with_name(f".{uuid.uuid4().hex}")
    try:
        with _unnamed(file.parent) or partial.open("xb+") as opened:
            yield opened
            opened.flush()
            if not partial.exists():
                _give_name(opened.fileno(), partial)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _unnamed(folder: Path) -> BinaryIO | None:
    """A file without a name; None: the system has none, or not on this disk."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "wb+")
    except OSError:  # if the folder can't be written to, making a file with a name says so
        return None


def _give_name(file: int, name: Path) -> None:
    # With a folder, for that is how Python follows the link in /proc.
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{file}", name, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
