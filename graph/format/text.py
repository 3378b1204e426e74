"""Text files with one triple of names a line, separated by tabs (.txt, .tsv) or commas (.csv), or packed as .gz.

pyarrow reads the file and encodes the names block by block in C++. 20 million triples take less than a minute and a few
times the file's size of memory.
"""

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow import csv

from graph.column_names import order_of
from graph.errors import InputError
from graph.format.layout import Layout
from graph.format.lines import LONGEST_LINE, lines_of, open_stream
from graph.format.source import Format, Note, ReadOptions, SplitTable, strip_note
from graph.format.text_check import WHITE, cells_of, check_lines, decode

# Each block has its own dictionary of names until they are unified, so small blocks would repeat most names.
_BLOCK_BYTES = LONGEST_LINE
_SEPARATORS = {".txt": "\t", ".tsv": "\t", ".csv": ","}
_AFTER_QUOTE = re.compile(rb'(?:^|,) *"(?:[^"\r\n]|"")*+" *+[^,\r\n]', re.MULTILINE)
pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them


def _patterns(split: str) -> list[str]:
    return [split + suffix + packing for suffix in _SEPARATORS for packing in ("", ".gz")]


def _read(paths: Sequence[Path], options: ReadOptions) -> SplitTable:
    [path] = paths
    separator = _SEPARATORS[path.suffixes[-2] if path.suffix == ".gz" else path.suffix]
    has_header = options.header is True
    layout = Layout(options.columns or "hrt", separator, first_lines=int(has_header), strip=options.strip)
    if not has_header:
        return read_text(path, layout)
    header = tuple(cells_of(path, 1, decode(path, 1, next(lines_of(path), b"")), separator))
    if options.columns is None:
        layout = replace(layout, columns=order_of(header) or layout.columns)
    return replace(read_text(path, layout), header=header)


TEXT = Format("text", "names as text", _patterns, _read)


def read_text(path: Path, layout: Layout) -> SplitTable:
    """The triples of one text file.

    Raises:
        InputError: names the first wrong line.
    """
    table, clean = None, None if layout.clean is None else _Clean(layout.clean)
    with contextlib.suppress(pa.ArrowException, OSError):  # check_lines names the line
        table = _parse(path, layout, clean, careful=False)
    if table is None or _is_suspicious(table, layout):
        check_lines(path, layout)
        try:
            # No line is wrong: there were blank lines at the end, zeros after a gzip stream, or unusual right names.
            table = _parse(path, layout, clean, careful=True)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    split = _stripped(path, table) if layout.strip else SplitTable(table)
    if layout.separator != "," or clean is None or not clean.changed:
        return split
    spaces = Note(f"{path.name}: spaces beside commas and at ends of lines were left out; quotes would keep them")
    return replace(split, notes=[*split.notes, spaces])


def _parse(path: Path, layout: Layout, clean: "_Clean | None", *, careful: bool) -> pa.Table:
    quoted = layout.separator == ","
    # 64-bit offsets, because the names of 100 million entities take more than 2 GiB.
    encoded = pa.dictionary(pa.int32(), pa.large_string())
    if clean is not None:
        clean.refuses_loose_quotes = quoted and not careful
    with open_stream(path, clean, careful=careful) as stream:
        return csv.read_csv(
            stream,
            read_options=csv.ReadOptions(
                column_names=list(layout.columns), block_size=_BLOCK_BYTES, skip_rows=layout.first_lines
            ),
            parse_options=csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if quoted else False,
                double_quote=quoted,
                escape_char=False,
                ignore_empty_lines=careful,
            ),
            convert_options=csv.ConvertOptions(
                check_utf8=True, strings_can_be_null=False, column_types=dict.fromkeys(layout.columns, encoded)
            ),
        )


@dataclass
class _Clean:
    """A function that cleans whole lines, and whether it changed any."""

    function: Callable[[bytes], bytes]
    refuses_loose_quotes: bool = False
    """Whether it raises a pyarrow error if text may follow a closing quote.

    pyarrow would add such text to the name. `check_lines` then looks at each line."""
    changed: bool = False

    def __call__(self, lines: bytes) -> bytes:
        if self.refuses_loose_quotes and b'"' in lines and _AFTER_QUOTE.search(lines):
            raise pa.ArrowInvalid("text after a closing quote")
        cleaned = self.function(lines)
        self.changed |= len(cleaned) < len(lines)
        return cleaned


def _is_suspicious(table: pa.Table, layout: Layout) -> bool:
    """Whether there is no triple or a name may be wrong, so that `check_lines` must look at each line.

    A blank line gives three empty names. An N-Triples line gives a tail that ends in a dot.
    """
    for column in table.columns:
        for chunk in column.chunks:
            names = chunk.dictionary
            trimmed = pc.utf8_trim(names, WHITE)
            if pc.any(pc.equal(trimmed, "")).as_py() or not (layout.strip or trimmed.equals(names)):
                return True
            if pc.any(pc.match_substring_regex(names, "[\r\n]")).as_py():
                return True
    for chunk in table["t"].chunks:
        if pc.any(pc.match_substring_regex(chunk.dictionary, r'^(<.*>|_:.*|".*)\s*\.\s*$')).as_py():
            return True
    return len(table) == 0


def _stripped(path: Path, table: pa.Table) -> SplitTable:
    """Removes white space at the ends of names; names that are then equal become one."""
    columns, changed = [], 0
    for column in table.columns:
        chunks = []
        for chunk in column.chunks:
            trimmed = pc.utf8_trim(chunk.dictionary, WHITE)
            changed += pc.sum(pc.take(pc.not_equal(trimmed, chunk.dictionary), chunk.indices)).as_py() or 0
            merged = trimmed.dictionary_encode()
            chunks.append(pa.DictionaryArray.from_arrays(merged.indices.take(chunk.indices), merged.dictionary))
        columns.append(pa.chunked_array(chunks))
    return SplitTable(pa.table(columns, names=table.column_names), [strip_note(path, changed)] if changed else [])
