"""Writes files whole or not at all."""

import os
from pathlib import Path

from graph.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises InputError if that is impossible."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
