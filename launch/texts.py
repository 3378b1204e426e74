"""Texts that a user typed: whether they can be names or paths, and how an error shows them."""

import sys

from graph.errors import InputError

NAME_BYTES = 255
"""The longest name of a file."""
_PATH_BYTES = 4095


def check_text(key: str, value: str) -> None:
    """Raises InputError for a text that can be neither a name nor a path."""
    if "\0" in value:
        raise InputError(f"{key} must not have a character 0, got {shortened(value)}")
    if len(value.encode(errors="surrogateescape")) > _PATH_BYTES or any(
        len(part.encode(errors="surrogateescape")) > NAME_BYTES for part in value.split("/")
    ):
        raise InputError(
            f"{key} must be a name of at most {NAME_BYTES} bytes, or a path of such names, "
            f"got {len(value)} characters, {shortened(value)}"
        )


def shortened(value: object) -> str:
    """A value for an error message; a long one is cut."""
    text = _digits(value) if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _digits(value: int) -> str:
    limit = sys.get_int_max_str_digits()
    return str(value) if limit == 0 or abs(value) < 10 ** min(limit - 1, 100) else hex(value)
