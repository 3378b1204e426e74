"""Parquet files with one triple a row: train.parquet, or parts such as train-00000-of-00002.parquet.

Columns with usual names (head, relation, tail; subject, predicate, object; source, relation, target ...) are found by
name, and other columns are ignored. Otherwise there must be exactly three columns, in the order of graph.columns.
Names are text or integers; an integer's name is its digits.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow import parquet

from graph.column_names import USUAL
from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.source import Ending, Format, Note, Pieces, ReadOptions, strip_note
from graph.format.text_check import COLUMN_NAMES, WHITE, shown

_ROWS = 1 << 20
"""Triples that are read at a time."""
pc: Any = pyarrow.compute


def _patterns(split: str) -> list[str]:
    names = [split, *(["validation"] if split == "valid" else [])]
    return [f"{name}{part}.parquet" for name in names for part in ("", "-[0-9]*-of-[0-9]*")]


def _read(paths: Sequence[Path], options: ReadOptions) -> Pieces:
    notes: list[Note] = []
    header, rows = None, 0
    for path in paths:
        for piece in _read_file(path, options, notes):
            table = piece
            if options.header is True and header is None and len(table):
                header = tuple(str(column[0].as_py()) for column in table.columns)
                table = table.slice(1)
            rows += len(table)
            if len(table):
                yield table
    if not rows:
        raise InputError(f"{paths[0]} is empty, expected at least one triple")
    return Ending(notes, header)


PARQUET = Format("parquet", "Parquet", _patterns, _read, many=True)


def _read_file(path: Path, options: ReadOptions, notes: list[Note]) -> Iterator[pa.Table]:
    """The triples of a file, some at a time; `notes` get what is to be logged."""
    changed, first = 0, 0
    try:
        if kind := foreign_kind(path):
            raise InputError(f"{path} is {kind}")
        file = parquet.ParquetFile(path)
        chosen = _choose(path, file.schema_arrow.names, options.columns)
        for batch in file.iter_batches(_ROWS, columns=list(chosen.values())):
            columns = [
                _names(path, letter, batch.column(name), first, strip=options.strip) for letter, name in chosen.items()
            ]
            changed += sum(of_column for _, of_column in columns)
            first += len(batch)
            yield pa.table([column for column, _ in columns], names=list(chosen))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    others = [name for name in file.schema_arrow.names if name not in chosen.values()]
    taken = ", ".join(f"{COLUMN_NAMES[letter]} from {name!r}" for letter, name in chosen.items())
    left = f"; left out: {', '.join(others)}" if others else ""
    notes.append(Note(f"{path.name}: {taken}{left}"))
    if changed:
        notes.append(strip_note(path, changed))


def _choose(path: Path, names: Sequence[str], columns: str | None) -> dict[str, str]:
    """The names of the columns of head, relation and tail, by h, r and t."""
    if columns is None:
        usual = {letter: [name for name in names if name.lower() in USUAL[letter]] for letter in "hrt"}
        if all(len(found) == 1 for found in usual.values()):
            return {letter: found[0] for letter, found in usual.items()}
    own = [name for name in names if not fnmatch.fnmatch(name, "__index_level_*__")]  # index columns of pandas
    if len(own) != 3 or len(set(own)) != 3:
        raise InputError(
            f"{path} has the columns {', '.join(names)}; expected three, or some named head, relation and tail"
        )
    in_file = dict(zip(columns or "hrt", own, strict=True))
    return {letter: in_file[letter] for letter in "hrt"}


def _names(path: Path, letter: str, column: pa.Array, first: int, *, strip: bool) -> tuple[pa.Array, int]:
    """A column as integers or dictionary-encoded text, and how many names of it were stripped.

    Args:
        first: rows of the file before these.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: the column of the {COLUMN_NAMES[letter]} is {kind}, expected text or integers")
    if column.null_count:
        row = first + pc.index(column.is_null(), True).as_py()
        raise InputError(f"{path}, row {row + 1}: the {COLUMN_NAMES[letter]} is null, expected a name")
    if pa.types.is_integer(kind):
        return column, 0
    column = column.cast(pa.large_string())
    trimmed = pc.utf8_trim(column, WHITE)
    is_white = pc.not_equal(trimmed, column)
    for wrong, what in (
        (pc.equal(trimmed, ""), "is empty, expected a name"),
        (is_white, "has white space at its edge; graph.strip=true cuts it off"),
    ):
        row = pc.index(wrong, True).as_py()
        if row >= 0 and not (strip and "edge" in what):
            name = shown(column[row].as_py())
            raise InputError(f"{path}, row {first + row + 1}: the {COLUMN_NAMES[letter]} {name} {what}")
    changed = pc.sum(is_white).as_py() or 0 if strip else 0
    return (trimmed if strip else column).dictionary_encode(), changed
