"""Which line of a file of triples is wrong, and how: the slow pass, taken only when the fast reader stumbles."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from graph.errors import InputError

_SEPARATOR_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar", " ": "a space"}
_COLUMN_NAMES = {"h": "head", "r": "relation", "t": "tail"}
_HEADERS = ({"head", "relation", "tail"}, {"h", "r", "t"}, {"subject", "predicate", "object"}, {"s", "p", "o"})
_CHUNK = 1 << 20


def is_header(names: Iterable[str]) -> bool:
    """Whether a line says what the columns are, such as head,relation,tail: it would be read as a triple."""
    return {name.strip().lower() for name in names} in _HEADERS


def check_lines(path: Path, columns: str, separator: str) -> None:
    """Reads `path` line by line and raises InputError for its first fault; returns if it has none.

    Lines are counted from 1 in the uncompressed text. Blank lines are fine at the end of the file only.
    """
    first_blank, line_number = None, 0
    try:
        for line_number, line in enumerate(_lines(path), start=1):
            if line == b"":
                first_blank = first_blank or line_number
                continue
            if first_blank:
                raise _fault(path, first_blank, f"a blank line before line {line_number}, expected a triple")
            _check_line(path, line_number, line, columns, separator)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        state = "truncated" if isinstance(error, EOFError) else f"corrupt ({error})"
        raise InputError(
            f"{path}: the gzip stream is {state} after line {line_number}, expected its end mark"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if line_number == 0 or first_blank == 1:
        raise InputError(f"{path} is empty, expected at least one triple")


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends (\\n, \\r\\n or \\r). Of a broken gzip stream, all whole lines before the error."""
    rest = b""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # read1, because read fills its whole buffer before it returns and would lose what precedes a broken end.
        while chunk := file.read1(_CHUNK):
            lines = (rest + chunk).splitlines(keepends=True)
            # A last line that ends in \r stays too: the next chunk may begin with its \n.
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            for line in lines:
                yield line.rstrip(b"\r\n")
    if rest:
        yield rest.rstrip(b"\r\n")


def _check_line(path: Path, line_number: int, line: bytes, columns: str, separator: str) -> None:
    try:
        text = line.decode("utf-8-sig" if line_number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8, expected UTF-8 text"
        raise _fault(path, line_number, found) from error
    if separator == ",":
        try:
            cells = next(csv.reader([text], strict=True))
        except csv.Error as error:
            rule = "expected a value with quotes to begin and end with one, on the same line"
            raise _fault(path, line_number, f"bad quoting ({error}), {rule}") from error
    else:
        cells = text.split(separator)
    if len(cells) != 3:
        found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        expected = f"expected 3 separated by {_SEPARATOR_NAMES[separator]}"
        raise _fault(path, line_number, f"{found}, {expected}{_other_separator(text, separator)}")
    if line_number == 1 and is_header(cells):
        raise _fault(path, line_number, f"a header ({', '.join(cells)}), expected a triple: take the line out")
    for cell, letter in zip(cells, columns, strict=True):
        if not cell.strip():
            raise _fault(path, line_number, f"the {_COLUMN_NAMES[letter]} is empty, expected a name")


def _other_separator(text: str, separator: str) -> str:
    for other, name in _SEPARATOR_NAMES.items():
        if other != separator and text.count(other) == 2:
            advice = {"\t": " (such a file is named .txt or .tsv)", ",": " (such a file is named .csv)"}.get(other, "")
            return f"; this line has 3 separated by {name}{advice}"
    return ""


def _fault(path: Path, line_number: int, what: str) -> InputError:
    return InputError(f"{path}, line {line_number}: {what}")
