"""Checks folders that a user names. Errors are one line and name the option."""

from pathlib import Path

from graph.errors import InputError

_SHOWN = 200


def folder_at(value: object, key: str) -> Path:
    """The path in an option's value, with ~ replaced by the home folder.

    Args:
        key: the option's name, for errors.

    Raises:
        InputError: the value is not text, or NAME in ~NAME is no user.
    """
    if isinstance(value, bool) or not isinstance(value, str | Path | int):
        raise InputError(f"{key} must name a folder, got {value!r}")
    try:
        return Path(str(value)).expanduser()  # a folder named 2024 comes as a number
    except RuntimeError as error:
        raise InputError(f"{key}: {_short(value)} begins with a user whose home folder is not known") from error


def names_in(folder: Path, key: str) -> list[str]:
    """The sorted names of the files and folders in a folder.

    Args:
        key: the name of the option that gave the folder, for errors.

    Raises:
        InputError: the folder is missing, is a file, or cannot be read.
    """
    try:
        return sorted(child.name for child in folder.iterdir())
    except FileNotFoundError as error:
        raise InputError(f"{key} must name a folder, {folder} is missing") from error
    except NotADirectoryError as error:
        raise InputError(f"{key} must name a folder, {folder} is a file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{key}: {_short(folder)} cannot be read: {reason}") from error


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
