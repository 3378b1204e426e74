"""Writes files and folders whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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


def refuse_other_files(out: Path, marker: str, form: str, what: str) -> None:
    """Refuses a folder with other files than those of an earlier call of the same command, which may be replaced.

    Args:
        marker: the JSON file by which such a folder is known.
        form: what that file says as its "format".
        what: what an earlier call wrote, for the error.

    Raises:
        InputError: there are other files, which would be lost.
    """
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
        earlier = json.loads((out / marker).read_text())["format"] == form
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    if not earlier:
        raise InputError(f"out must be a new or empty folder or an earlier {what}, but {out} has other files")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Gives an empty folder beside `out`, which takes its place at the end. So `out` is never half written.

    Raises:
        InputError: a file can't be written.
    """
    temporary, replaced = (out.with_name(f"{out.name}.{suffix}.tmp") for suffix in ("new", "old"))
    try:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            if out.exists():
                out.rename(replaced)
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise InputError(f"out: {out} can't be written: {error.strerror}") from error
