"""Text files with one triple of names a line, separated by tabs (.txt, .tsv) or commas (.csv), or packed as .gz.

pyarrow reads the file and encodes the names block by block in C++. 20 million triples take less than a minute, and
memory is that of a block.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow import csv

from graph.column_names import order_of
from graph.format.layout import Layout
from graph.format.lines import LONGEST_LINE, blocks_of_lines, lines_of, open_stream, read_carefully
from graph.format.source import Ending, Format, Note, Pieces, ReadOptions, strip_note
from graph.format.text_check import WHITE, cells_of, check_lines, decode
from graph.format.wrong_lines import Without, WrongLines

# Each block has its own dictionary of names until they are numbered, so small blocks would repeat most names.
_BLOCK_BYTES = LONGEST_LINE
_SEPARATORS = {".txt": "\t", ".tsv": "\t", ".csv": ","}
_AFTER_QUOTE = re.compile(rb'(?:^|,) *"(?:[^"\r\n]|"")*+" *+[^,\r\n]', re.MULTILINE)
pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them


def _patterns(split: str) -> list[str]:
    return [split + suffix + packing for suffix in _SEPARATORS for packing in ("", ".gz")]


def _read(paths: Sequence[Path], options: ReadOptions) -> Pieces:
    [path] = paths
    separator = _SEPARATORS[path.suffixes[-2] if path.suffix == ".gz" else path.suffix]
    has_header = options.header is True
    layout = Layout(options.columns or "hrt", separator, first_lines=int(has_header), strip=options.strip)
    if not has_header:
        return (yield from read_text(path, layout, options.wrong_lines))
    header = tuple(cells_of(path, 1, decode(path, 1, next(lines_of(path), b"")), separator))
    if options.columns is None:
        layout = replace(layout, columns=order_of(header) or layout.columns)
    ending = yield from read_text(path, layout, options.wrong_lines)
    return replace(ending, header=header)


TEXT = Format("text", "names as text", _patterns, _read)


def read_text(path: Path, layout: Layout, skipped: Counter[str] | None = None) -> Pieces:
    """The triples of one text file.

    Args:
        skipped: where wrong lines that are left out are counted; None: they are an error.
    Raises:
        InputError: names the first wrong lines, or has no right one.
    """
    clean = None if layout.clean is None else _Clean(layout.clean)
    changed, notes, wrong = 0, [], WrongLines()

    def check() -> None:
        nonlocal wrong
        wrong = check_lines(path, layout)
        if wrong and skipped is None:
            raise wrong.error()

    # If no line is wrong, the careful way goes on: there were blank lines at the end, zeros after a gzip stream, or
    # unusual right names.
    tables = read_carefully(
        path, lambda careful: _parse(path, layout, clean, Without(wrong.numbers), careful=careful), check
    )
    for table in tables:
        piece, of_piece = _stripped(table) if layout.strip else (table, 0)
        changed += of_piece
        yield piece
    if skipped is not None:
        skipped.update(wrong.reasons)
    if changed:
        notes.append(strip_note(path, changed))
    if layout.separator == "," and clean is not None and clean.changed:
        notes.append(
            Note(f"{path.name}: spaces beside commas and at ends of lines were left out; quotes would keep them")
        )
    return Ending(notes)


def _parse(path: Path, layout: Layout, clean: "_Clean | None", right: Without, *, careful: bool) -> Iterator[pa.Table]:
    """The triples, a block at a time. Raises an error of pyarrow for what may be wrong, unless `careful`.

    Args:
        right: keeps the lines that are not wrong, as far as these are known, which they are if `careful`.
    """
    quoted = layout.separator == ","
    # 64-bit offsets, because the names of 100 million entities take more than 2 GiB.
    encoded = pa.dictionary(pa.int32(), pa.large_string())
    if clean is not None:
        clean.refuses_loose_quotes = quoted and not careful
    skipped = layout.first_lines
    lines = clean
    if careful:
        lines = right if clean is None else lambda block: clean(right(block))
    with open_stream(path, lines, careful=careful) as stream:
        for block in blocks_of_lines(stream, _BLOCK_BYTES, lines=skipped + 1):
            if careful and not block.strip():
                continue
            table = csv.read_csv(
                pa.BufferReader(block),
                read_options=csv.ReadOptions(
                    column_names=list(layout.columns), block_size=len(block) + 1, skip_rows=skipped
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
            if not careful and _is_suspicious(table, layout):
                raise pa.ArrowInvalid("a name may be wrong")
            skipped = 0
            yield table


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
    """Whether a name may be wrong, so that `check_lines` must look at each line.

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
    return False


def _stripped(table: pa.Table) -> tuple[pa.Table, int]:
    """Removes white space at the ends of names and counts those that had some; names that are then equal become one."""
    columns, changed = [], 0
    for column in table.columns:
        chunks = []
        for chunk in column.chunks:
            trimmed = pc.utf8_trim(chunk.dictionary, WHITE)
            changed += pc.sum(pc.take(pc.not_equal(trimmed, chunk.dictionary), chunk.indices)).as_py() or 0
            merged = trimmed.dictionary_encode()
            chunks.append(pa.DictionaryArray.from_arrays(merged.indices.take(chunk.indices), merged.dictionary))
        columns.append(pa.chunked_array(chunks))
    return pa.table(columns, names=table.column_names), changed
