r"""Records: lines with the same columns, written as .tsv, .csv or .jsonl, or as a table of text.

So that each name stays on its line, in .tsv and in tables a backslash is written `\\`, a tab `\t`, a line feed `\n` and
a carriage return `\r`. In .csv and .jsonl the quotes of these formats do this.
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graph.errors import InputError
from graph.escapes import ESCAPES
from reporting.files import write_lines

Value = str | int | float | bool | None
"""None: there is no value, as of a rank that was not asked for. Empty in text, null in .jsonl."""
Line = Sequence[Value]

_DIGITS = 6
"""Significant digits of a number that is not whole: float32 has 7, and the last one may differ between machines."""
_WIDEST = 44
"""The longest text in a table, in characters."""


@dataclass(frozen=True)
class Records:
    """Lines and the names of their columns. The lines may be computed while they are read, and are read once."""

    columns: Sequence[str]
    lines: Iterable[Line]


def check_records_file(path: Path) -> None:
    """Raises InputError if records can't be written there, because of the name's ending or a missing folder."""
    if path.suffix not in _WRITERS:
        raise InputError(f"out must end in {', '.join(_WRITERS)}, got {path}")
    if not path.parent.is_dir():
        raise InputError(f"out: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"out: {path} is a folder")


def write_records(path: Path, records: Records) -> int:
    """Writes the records whole or not at all, and returns their number.

    Raises:
        InputError: the file can't be written, or its ending is not .tsv, .csv or .jsonl.
    """
    check_records_file(path)
    written = 0

    def counted() -> Iterator[Line]:
        nonlocal written
        for line in records.lines:
            written += 1
            yield line

    write_lines(path, _WRITERS[path.suffix](Records(records.columns, counted())))
    return written


def text_table(records: Records) -> str:
    """The records as a table of text; long names are cut in the middle."""
    lines = [list(records.columns), *([_cut(_text(value)) for value in line] for line in records.lines)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(records.columns))]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(text.ljust(width) for text, width in line).rstrip() for line in padded)


def _cut(text: str) -> str:
    keep = (_WIDEST - 3) // 2
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3 - keep]}...{text[-keep:]}"


def _plain(value: Value) -> Value:
    """The value with as many digits as are written."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    return "" if value is None else str(value).translate(ESCAPES)


def _tsv(records: Records) -> Iterator[str]:
    yield "\t".join(records.columns) + "\n"
    for line in records.lines:
        yield "\t".join(map(_text, line)) + "\n"


def _csv(records: Records) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for line in itertools.chain([records.columns], records.lines):
        writer.writerow([value if isinstance(value, str) else _text(value) for value in line])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _jsonl(records: Records) -> Iterator[str]:
    for line in records.lines:
        yield json.dumps(dict(zip(records.columns, map(_plain, line), strict=True)), ensure_ascii=False) + "\n"


_WRITERS: dict[str, Callable[[Records], Iterator[str]]] = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
