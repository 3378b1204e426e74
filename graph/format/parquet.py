"""Parquet files with one triple a row: train.parquet, or parts such as train-00000-of-00002.parquet.

Columns with usual names (head, relation, tail; subject, predicate, object; source, relation, target ...) are found by
name, and other columns are ignored. Otherwise there must be exactly three columns, in the order of graph.columns.
Names are text or integers; an integer's name is its digits.
"""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow import parquet

from graph.column_names import USUAL
from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.source import Format, Note, ReadOptions, SplitTable, strip_note
from graph.format.text_check import COLUMN_NAMES, WHITE, shown

pc: Any = pyarrow.compute


def _patterns(split: str) -> list[str]:
    names = [split, *(["validation"] if split == "valid" else [])]
    return [f"{name}{part}.parquet" for name in names for part in ("", "-[0-9]*-of-[0-9]*")]


def _read(paths: Sequence[Path], options: ReadOptions) -> SplitTable:
    tables, notes = [], []
    for path in paths:
        table, of_file = _read_file(path, options)
        tables.append(table)
        notes += of_file
    table = pa.concat_tables(tables)
    header = None
    if options.header is True and len(table):
        header = tuple(str(column[0].as_py()) for column in table.columns)
        table = table.slice(1)
    if not len(table):
        raise InputError(f"{paths[0]} is empty, expected at least one triple")
    encoded = [column.dictionary_encode() for column in table.columns]
    return SplitTable(pa.table(encoded, names=table.column_names), notes, header)


PARQUET = Format("parquet", "Parquet", _patterns, _read, many=True)


def _read_file(path: Path, options: ReadOptions) -> tuple[pa.Table, list[Note]]:
    try:
        if kind := foreign_kind(path):
            raise InputError(f"{path} is {kind}")
        file = parquet.ParquetFile(path)
        chosen = _choose(path, file.schema_arrow.names, options.columns)
        table = file.read(columns=list(chosen.values())).select(list(chosen.values()))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    columns = [_text(path, letter, table[name], strip=options.strip) for letter, name in chosen.items()]
    others = [name for name in file.schema_arrow.names if name not in chosen.values()]
    taken = ", ".join(f"{COLUMN_NAMES[letter]} from {name!r}" for letter, name in chosen.items())
    left = f"; left out: {', '.join(others)}" if others else ""
    notes = [Note(f"{path.name}: {taken}{left}")]
    stripped = [pc.utf8_trim(column, WHITE) for column in columns] if options.strip else columns
    changed = sum(pc.sum(pc.not_equal(old, new)).as_py() or 0 for old, new in zip(columns, stripped, strict=True))
    if changed:
        notes.append(strip_note(path, changed))
    return pa.table(stripped, names=list(chosen)), notes


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


def _text(path: Path, letter: str, column: pa.ChunkedArray, *, strip: bool) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: the column of the {COLUMN_NAMES[letter]} is {kind}, expected text or integers")
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise InputError(f"{path}, row {row + 1}: the {COLUMN_NAMES[letter]} is null, expected a name")
    column = column.cast(pa.large_string())
    trimmed = pc.utf8_trim(column, WHITE)
    for wrong, what in (
        (pc.equal(trimmed, ""), "is empty, expected a name"),
        (pc.not_equal(trimmed, column), "has white space at its edge; graph.strip=true cuts it off"),
    ):
        row = pc.index(wrong, True).as_py()
        if row >= 0 and not (strip and "edge" in what):
            name = shown(column[row].as_py())
            raise InputError(f"{path}, row {row + 1}: the {COLUMN_NAMES[letter]} {name} {what}")
    return column
