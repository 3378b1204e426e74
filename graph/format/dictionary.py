"""Reads lists of all entities or relations with their ids, which many formats have beside the triples.

A line has a name and an id, in either order, separated by a tab, or by blanks in a file without tabs. The first line
may be the number of lines that follow. Ids are 0 ... n-1, each once. The graph keeps all of them, even if no triple
uses them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyarrow import csv

from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.layout import single_spaces
from graph.format.lines import LONGEST_LINE, lines_of, open_stream
from graph.format.text_check import WHITE, check_name, count_of, decode, shown
from graph.format.wrong_lines import LineFault

pc: Any = pyarrow.compute


def read_dictionary(path: Path, *, strip: bool) -> pa.Array:
    """The names in the order of their ids.

    Args:
        strip: True: remove white space at the ends of names. False: raise an error for such names.

    Raises:
        InputError: names the file and the first wrong line.
    """
    try:
        if kind := foreign_kind(path):
            raise InputError(f"{path} is {kind}")
        first = next(lines_of(path), b"")
        count = count_of(decode(path, 1, first))
        counted = count is not None
        sample = first if not counted else b"".join(list(_some_lines(path, 2))[1:])
        separator = "\t" if b"\t" in sample else " "
        columns = _parse(path, separator, counted=counted)
    except (pa.ArrowException, OSError) as error:
        _check_lines(path, strip=strip)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read: {reason}") from error
    names = _by_id(path, columns)
    if names is not None and strip:
        names = pc.utf8_trim(names, WHITE)
    if names is None or _has_odd_name(names) or (counted and count != len(names)):
        _check_lines(path, strip=strip)
        raise InputError(f"{path}: expected a name and its id on each line, ids 0 to {len(columns[0]) - 1}, each once")
    return names


def _some_lines(path: Path, count: int) -> list[bytes]:
    return [line for line, _ in zip(lines_of(path), range(count), strict=False)]


def _parse(path: Path, separator: str, *, counted: bool) -> list[pa.Array]:
    with open_stream(path, single_spaces if separator == " " else None, careful=True) as stream:
        table = csv.read_csv(
            stream,
            read_options=csv.ReadOptions(column_names=["a", "b"], block_size=LONGEST_LINE, skip_rows=int(counted)),
            parse_options=csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                check_utf8=True,
                strings_can_be_null=False,
                column_types={"a": pa.large_string(), "b": pa.large_string()},
            ),
        )
    columns = [pa.concat_arrays([pa.array([], pa.large_string()), *column.chunks]) for column in table.columns]
    while len(columns[0]) and columns[0][-1].as_py() == columns[1][-1].as_py() == "":  # blank lines at the end
        columns = [column[:-1] for column in columns]
    return columns


def _by_id(path: Path, columns: list[pa.Array]) -> pa.Array | None:
    """The names in order of their ids; None if neither column can be the ids, or both can and nothing decides."""
    orders = [_order(column) for column in columns]
    places = [place for place in (0, 1) if orders[place] is not None]
    if len(places) == 2:
        places = [place for place in places if place == _id_place(path)] or places[: int(columns[0].equals(columns[1]))]
    return columns[1 - places[0]].take(orders[places[0]]) if places else None


def _id_place(path: Path) -> int | None:
    """The column of the ids, told by the name of the file; None if files of this name have either order."""
    if "2id" in path.name:
        return 1
    return 0 if "_ids" in path.name else None


def _order(ids: pa.Array) -> pa.Array | None:
    """The positions of ids 0, 1, 2 ...; None unless the column holds exactly these."""
    try:
        numbers = ids.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return None
    order = np.argsort(numbers, kind="stable")
    return pa.array(order) if np.array_equal(numbers[order], np.arange(len(numbers))) else None


def _has_odd_name(names: pa.Array) -> bool:
    trimmed = pc.utf8_trim(names, WHITE)
    return (
        not len(names)
        or not trimmed.equals(names)
        or pc.any(pc.equal(names, "")).as_py()
        or len(pc.unique(names)) < len(names)
    )


def _check_lines(path: Path, *, strip: bool) -> None:
    """Raises InputError for the first wrong line; returns if all lines are right."""
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path} is empty, expected a name and its id on each line")
    places = [place for place in (0, 1) if all(cells[place].isdecimal() for _, cells in rows)]
    if not places:
        number, cells = next((n, cells) for n, cells in rows if not any(cell.isdecimal() for cell in cells))
        raise LineFault(path, number, f"expected a name and its id, got {shown(' '.join(cells))}")
    exact = [place for place in places if {int(cells[place]) for _, cells in rows} == set(range(len(rows)))]
    if len(exact) == 2 and _id_place(path) is None:
        raise InputError(f"{path}: both columns have ids 0 to {len(rows) - 1}, so names and ids can't be told apart")
    place = next((each for each in places if each == _id_place(path)), (exact or places)[0])
    seen: dict[str, int] = {}
    at: dict[int, int] = {}
    for number, cells in rows:
        name, identifier = cells[1 - place], int(cells[place])
        check_name(path, number, name, "name", strip=strip)
        name = name.strip(WHITE) if strip else name
        if name in seen:
            raise LineFault(path, number, f"the name {shown(name)} is also on line {seen[name]}, expected each once")
        if identifier in at:
            raise LineFault(path, number, f"the id {identifier} is also on line {at[identifier]}, expected each once")
        if identifier >= len(rows):
            raise LineFault(path, number, f"the id {identifier} is not one of 0 to {len(rows) - 1}")
        seen[name] = at[identifier] = number


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The number and the two cells of each line, without the count line and blank lines at the end."""
    rows: list[tuple[int, list[str]]] = []
    count = None
    blank = 0
    try:
        for number, line in enumerate(lines_of(path), start=1):
            text = decode(path, number, line)
            if number == 1 and (count := count_of(text)) is not None:
                continue
            if not text.strip():
                blank = blank or number
                continue
            if blank:
                raise LineFault(path, blank, f"a blank line before line {number}, expected a name and its id")
            cells = text.split("\t") if "\t" in text else text.split()
            if len(cells) != 2:
                raise LineFault(path, number, f"expected a name and its id separated by a tab, got {shown(text)}")
            rows.append((number, cells))
    except (EOFError, OSError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if count is not None and count != len(rows):
        raise InputError(f"{path}, line 1: it says {count} lines, but {len(rows)} follow")
    return rows
