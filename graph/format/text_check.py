"""Finds the wrong lines of a file of triples. It is slow and runs only after the fast reader finds a fault."""

import codecs
import csv
import gzip
import re
import zlib
from array import array
from pathlib import Path

from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.layout import Layout, skip_spaces_around_names
from graph.format.lines import LONGEST_LINE, lines_of
from graph.format.wrong_lines import LineFault, WrongLines

COLUMN_NAMES = {"h": "head", "r": "relation", "t": "tail"}
# White space by Unicode, and other invisible marks, such as a byte order mark between joined files.
WHITE = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + "\ufeff\u200b\u2060"
_SEPARATOR_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar", " ": "a space"}
_NTRIPLES = re.compile(r"\s*(<[^<>]*>|_:\S+)[\s,]*<[^<>]*>[\s,]*(<[^<>]*>|_:\S+|\".*\S)\s*\.\s*(#.*)?")
_SHOWN = 80


def check_lines(path: Path, layout: Layout) -> WrongLines:
    """Reads the file line by line and returns its wrong lines.

    Lines are counted from 1 in the unpacked text. Blank lines are allowed only at the end of the file.

    Raises:
        InputError: the file is of another kind, can't be read, or has neither triples nor wrong lines.
    """
    wrong, blank, line_number, triples = WrongLines(), array("q"), 0, 0
    try:
        if kind := foreign_kind(path):
            raise InputError(f"{path} is {kind}")
        for line_number, line in enumerate(lines_of(path), start=1):
            if line_number <= layout.first_lines:
                continue
            if line == b"" or (line_number == 1 and line == codecs.BOM_UTF8):
                blank.append(line_number)
                continue
            for number in blank:
                what = f"a blank line before line {line_number}, expected a triple"
                wrong.add(LineFault(path, number, what, "a blank line"))
            del blank[:]
            try:
                _check_line(path, line_number, line, layout)
                triples += 1
            except LineFault as fault:
                wrong.add(fault)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        state = "truncated" if isinstance(error, EOFError) else f"corrupt ({error})"
        raise InputError(
            f"{path}: the gzip stream is {state} after line {line_number}, expected its end mark"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not triples and not wrong:
        found = "has nothing after its first line" if layout.first_lines else "is empty"
        raise InputError(f"{path} {found}, expected at least one triple")
    if not triples:
        raise wrong.error()
    return wrong


def shown(text: str) -> str:
    """A line or name for an error message: in quotes, with invisible characters escaped, cut after 80 characters."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def decode(path: Path, line_number: int, line: bytes) -> str:
    """The text of a line; raises InputError if it is not UTF-8."""
    try:
        return line.decode("utf-8-sig" if line_number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8, expected UTF-8 text"
        if path.suffix != ".gz":
            found += f"; if it is Latin-1, write it anew by iconv -f latin1 -t utf-8 {path.name}"
        raise LineFault(path, line_number, found, "not UTF-8") from error


def _check_line(path: Path, line_number: int, line: bytes, layout: Layout) -> None:
    if len(line) > LONGEST_LINE:
        raise LineFault(path, line_number, f"is longer than {LONGEST_LINE >> 20} MiB, expected a triple")
    text = decode(path, line_number, line)
    if _NTRIPLES.fullmatch(text):
        raise LineFault(path, line_number, "this is N-Triples, expected a name that ends in .nt or .nt.gz")
    cells = cells_of(path, line_number, text, layout.separator)
    if len(cells) != 3:
        found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        expected = f"expected 3 separated by {_SEPARATOR_NAMES[layout.separator]}"
        advice = _other_separator(text, layout.separator)
        if len(cells) > 3 and layout.separator in "\t,":
            comma = " -d," if layout.separator == "," else ""
            advice += f"; leave out the other columns, as by cut{comma} -f1-3 {path.name}"
            advice += ", or put names with commas in quotes" if comma else ""
        raise LineFault(path, line_number, f"{found}, {expected}{advice}")
    for cell, letter in zip(cells, layout.columns, strict=True):
        check_name(path, line_number, cell, COLUMN_NAMES[letter], strip=layout.strip)


def cells_of(path: Path, line_number: int, text: str, separator: str) -> list[str]:
    """The cells of a line; raises InputError for wrong quotes."""
    if separator == " ":
        return text.split()
    if separator != ",":
        return text.split(separator)
    try:
        return next(csv.reader([skip_spaces_around_names(text.encode()).decode()], strict=True)) or [""]
    except csv.Error as error:
        rule = "expected a value with quotes to begin and end with one, on the same line"
        raise LineFault(path, line_number, f"bad quoting ({error}), {rule}", "bad quoting") from error


def count_of(text: str) -> int | None:
    """The number of lines that follow, if the line is such a number; else None."""
    return int(text) if re.fullmatch(r"\s*[0-9]{1,18}\s*", text) else None


def check_name(path: Path, line_number: int, name: str, column: str, *, strip: bool) -> None:
    """Raises InputError for an empty name, and unless `strip` for white space at an end of the name."""
    if not name.strip(WHITE):
        raise LineFault(path, line_number, f"the {column} is empty, expected a name")
    if name != name.strip(WHITE) and not strip:
        found = f"the {column} {shown(name)} has white space at its edge"
        advice = "expected a name without; graph.strip=true cuts it off"
        raise LineFault(path, line_number, f"{found}, {advice}", f"white space at the edge of the {column}")


def _other_separator(text: str, separator: str) -> str:
    for other, name in _SEPARATOR_NAMES.items():
        if other != separator and text.count(other) == 2:
            advice = {
                "\t": " (such a file is named .txt or .tsv)",
                ",": " (such a file is named .csv)",
                ";": " (write tabs in their place, as by tr ';' '\\t', to a file named .tsv)",
                "|": " (write tabs in their place, as by tr '|' '\\t', to a file named .tsv)",
            }.get(other, "")
            return f"; this line has 3 separated by {name}{advice}"
    if separator == "\t" and "\t" not in text and (blanks := len(text.split())) > 3:
        return f"; this line has no tab, and {blanks} words separated by spaces where tabs should be"
    if separator == "\t" and "  " in text:
        return "; this line has runs of spaces where tabs should be"
    return ""
