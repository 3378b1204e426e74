"""Writes files whole or not at all."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from graph.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises InputError if that is impossible."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """The same for text that comes in pieces, which may be computed while it is written. In UTF-8.

    If their computation fails, a file that was there stays as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
