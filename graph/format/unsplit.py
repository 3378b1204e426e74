"""Finds triples that may have no splits yet: one file of any name, or a folder with one such file."""

import fnmatch
from pathlib import Path

from graph.errors import InputError
from graph.folder import names_in
from graph.format.ntriples import NTRIPLES
from graph.format.parquet import PARQUET
from graph.format.recognise import missing_splits, recognise
from graph.format.source import SPLITS, Format, Found
from graph.format.text import TEXT

_ALONE = (TEXT, NTRIPLES, PARQUET)
"""Formats whose files need no lists of entities and relations beside them."""
_MOST_SHOWN = 5


def recognise_any(path: Path, wanted: str) -> Found:
    """The files of triples at a path, and their format. A file that is of no split comes as "train".

    Args:
        path: a file, a folder with a train file (then as `recognise`), or a folder with one file of triples.
        wanted: the name of the format; "auto": recognise it.

    Raises:
        InputError: there is no file of triples, or there are several and none is called train.
    """
    if path.is_dir():
        names = names_in(path, "path")
        found = [(path / name, format) for name in names if (format := format_of(name)) is not None]
        if len(missing_splits(path)) < len(SPLITS) or wanted not in ("auto", *(format.name for format in _ALONE)):
            return recognise(path, wanted)
        if len(found) != 1:
            raise _not_one(path, [file.name for file, _ in found])
        (file, format), folder = found[0], path
    else:
        if not path.exists():
            raise InputError(f"path must name a file or a folder, {path} is missing")
        file, format, folder = path, format_of(path.name), path.parent
    if format is None or wanted not in ("auto", format.name):
        kind = "in no format that is read alone" if format is None else f"{format.title} by its name"
        raise InputError(
            f"{file} is {kind}, expected a name like {', '.join(usual_names())}"
            + ("" if wanted == "auto" else f", of graph.format={wanted}")
        )
    return Found(folder, [format], {"train": [file]})


def format_of(name: str) -> Format | None:
    """The format of a file that is read alone, by its name; None if it is in none of them."""
    for format in _ALONE:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in format.patterns("*")):
            return format
    return None


def usual_names() -> list[str]:
    """Patterns of the names of such files, for errors."""
    return [pattern for format in _ALONE for pattern in format.patterns("*") if "[" not in pattern]


def _not_one(folder: Path, names: list[str]) -> InputError:
    if not names:
        return InputError(f"path: {folder} has no file of triples, expected one like {', '.join(usual_names())}")
    shown = ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
    return InputError(
        f"path: {folder} has {len(names)} files that may be triples ({shown}) and none called train; name one of them, "
        "or call the splits train, valid and test"
    )
