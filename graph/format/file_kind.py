"""Detects files that are not what their name says, such as a Git LFS pointer or a web page, by their first bytes."""

from pathlib import Path

_STARTS = {
    b"\x1f\x8b": "packed with gzip: its name must end in .gz",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "packed with bzip2: unpack it, or pack it with gzip",
    b"\xfd7zXZ\x00": "packed with xz: unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it, or pack it with gzip",
    b"PAR1": "a Parquet file: its name must end in .parquet",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"<!doctype html": "a web page: the download went wrong",
    b"<html": "a web page: the download went wrong",
}


def foreign_kind(path: Path) -> str | None:
    """What the file is and what to do about it, if it is not the text or Parquet file that its name says; else None.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64).lower()
    for magic, kind in _STARTS.items():
        right_name = {b"\x1f\x8b": ".gz", b"PAR1": ".parquet"}.get(magic)
        if start.startswith(magic.lower()) and path.suffix != right_name:
            return kind
    return None
