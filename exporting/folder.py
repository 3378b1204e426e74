"""The folder of an export: it appears whole, and replaces nothing but an earlier export."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from exporting.description import FORMAT
from graph.errors import InputError


def check_free(out: Path) -> None:
    """Raises InputError if a folder has other files than an earlier export, which may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        earlier = json.loads((out / "model.json").read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    if not earlier:
        raise InputError(f"out must be a new or empty folder or an earlier export, but {out} has other files")


def publish(out: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary folder beside `out` and renames it, so that `out` is never half written.

    Raises:
        OSError: a file can't be written. An earlier export stays as it is.
    """
    temporary, replaced = (out.with_name(f"{out.name}.{suffix}.tmp") for suffix in ("new", "old"))
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        _sync(temporary)
        if out.exists():
            out.rename(replaced)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flushes all files to disk, before the folder is renamed."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
