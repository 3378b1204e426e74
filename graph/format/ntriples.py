r"""N-Triples, the W3C's line format of RDF (https://www.w3.org/TR/n-triples/): `<s> <p> <o> .`, as .nt or .nt.gz.

The reader is strict: pyarrow applies one regular expression to whole blocks of lines in C++. rdflib would be one more
dependency and reads about ten thousand lines a second, so 20 million lines would take more than half an hour.

Names: an IRI loses its angle brackets, a blank node is `_:label`, a literal keeps its quotes and its language or type.
Escapes (\u00e9) are decoded, so that each IRI has one name.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow import csv

from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.lines import LONGEST_LINE, blocks_of_lines, lines_of, open_stream, read_carefully
from graph.format.source import Ending, Format, Note, Pieces, ReadOptions
from graph.format.text_check import WHITE, decode, shown
from graph.format.wrong_lines import LineFault, Without, WrongLines

# Four hex digits of a character, without the halves of surrogate pairs; eight digits go up to 10FFFF.
_FOUR = r"(?:[0-9A-CE-Fa-ce-f][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2})"
_UCHAR = rf"\\u{_FOUR}|\\U(?:0000{_FOUR}|00(?:0[1-9A-Fa-f]|10)[0-9A-Fa-f]{{4}})"
_IRI = rf'<(?:[^\x00-\x20<>"{{}}|^`\\]|{_UCHAR})*>'
_BLANK = r"_:[\pL\pN_:](?:[\pL\pM\pN_:.·-]*[\pL\pM\pN_:·-])?"
_LITERAL = (
    rf'"(?:[^"\\\x00-\x08\x0a-\x1f]|\\[tbnrf"\x27\\]|{_UCHAR})*"'
    rf"(?:@[a-zA-Z]+(?:-[a-zA-Z0-9]+)*|[ \t]*\^\^[ \t]*{_IRI})?"
)
_TRIPLE = (
    rf"^[ \t]*(?P<h>{_IRI}|{_BLANK})[ \t]*(?P<r>{_IRI})[ \t]*(?P<t>{_IRI}|{_BLANK}|{_LITERAL})"
    r"[ \t]*\.[ \t]*(?:#.*)?$"
)
_NOTHING = r"^[ \t]*(#.*)?$"
_ESCAPE = re.compile(rf'{_UCHAR}|\\[tbnrf"\'\\]')
_ONE_CHARACTER = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_NO_SEPARATOR = "\x1f"
_NO_TRIPLE = "no triple"
pc: Any = pyarrow.compute


def _patterns(split: str) -> list[str]:
    return [f"{split}.nt", f"{split}.nt.gz"]


def _read(paths: Sequence[Path], options: ReadOptions) -> Pieces:
    [path] = paths
    if options.columns not in (None, "hrt"):
        raise InputError(f"graph.columns: N-Triples are hrt, got {options.columns}")
    literals, kept, has_blank, wrong = 0, 0, False, WrongLines()

    def check() -> None:
        nonlocal wrong
        wrong = _check_lines(path, of_bytes=options.wrong_lines is not None)
        if wrong and options.wrong_lines is None:
            raise wrong.error()

    for lines in read_carefully(path, lambda careful: _lines(path, Without(wrong.numbers), careful=careful), check):
        triples = _parse(path, lines["line"].combine_chunks(), options.wrong_lines)
        is_literal = pc.starts_with(triples.field("t"), '"')
        literals += pc.sum(is_literal).as_py() or 0
        part = triples if options.literals else triples.filter(pc.invert(is_literal))
        has_blank = has_blank or any(pc.any(pc.starts_with(part.field(side), "_:")).as_py() for side in "ht")
        kept += len(part)
        yield pa.table([_named(path, part.field(letter)) for letter in "hrt"], names=list("hrt"))
    if options.wrong_lines is not None:
        options.wrong_lines.update(wrong.reasons)
    if not kept:
        has = "no triple" if not literals else f"no triple but {literals:,} whose tail is a literal, which are left out"
        raise InputError(f"{path} has {has}" + ("; graph.literals=true keeps them" if literals else ""))
    return Ending(_notes(path, literals, kept=options.literals, has_blank=has_blank))


NTRIPLES = Format("ntriples", "N-Triples", _patterns, _read, has_header=False)


def _notes(path: Path, literals: int, *, kept: bool, has_blank: bool) -> list[Note]:
    notes = []
    if literals:
        what = "kept, each as an entity" if kept else "left out; graph.literals=true keeps them"
        level = logging.INFO if kept else logging.WARNING
        notes.append(Note(f"{path.name}: {literals:,} triples whose tail is a literal were {what}", level))
    if has_blank:
        notes.append(Note(f"{path.name}: blank nodes of equal labels are one entity, also in different files"))
    return notes


def _lines(path: Path, right: Without, *, careful: bool) -> Iterator[pa.Table]:
    """The lines that are not blank, a block at a time; those that `right` keeps, if `careful`."""
    with open_stream(path, right if careful else None, careful=careful) as stream:
        for block in blocks_of_lines(stream, LONGEST_LINE):
            if not block.strip(b"\r\n"):
                continue
            yield csv.read_csv(
                pa.BufferReader(block),
                read_options=csv.ReadOptions(column_names=["line"], block_size=len(block) + 1),
                # The separator is a control character that N-Triples forbids, so each line is one field.
                parse_options=csv.ParseOptions(delimiter=_NO_SEPARATOR, quote_char=False, ignore_empty_lines=True),
                convert_options=csv.ConvertOptions(
                    check_utf8=True, strings_can_be_null=False, column_types={"line": pa.large_string()}
                ),
            )


def _parse(path: Path, lines: pa.Array, skipped: Counter[str] | None) -> pa.StructArray:
    """The triples of a block, as text fields h, r and t; `skipped` counts wrong lines, None: they are an error."""
    triples = pc.extract_regex(lines, _TRIPLE)
    fits = pc.is_valid(triples)
    if not pc.all(fits).as_py():
        others = lines.filter(pc.invert(fits))
        wrong = pc.invert(pc.match_substring_regex(others, _NOTHING))
        if skipped is not None:
            if count := pc.sum(wrong).as_py():
                skipped[_NO_TRIPLE] += count
        elif pc.any(wrong).as_py():
            if faults := _check_lines(path):
                raise faults.error()
            raise InputError(f"{path} has a line that is not N-Triples")
        triples = triples.filter(fits)
    return triples


def _named(path: Path, terms: pa.Array) -> pa.DictionaryArray:
    """Terms as dictionary-encoded names; the top of this file gives the rules."""
    encoded = terms.dictionary_encode()
    names = pc.replace_substring_regex(encoded.dictionary, "^<(.*)>$", r"\1")
    names = pc.replace_substring_regex(names, r'^(".*")[ \t]*\^\^[ \t]*(<.*>)$', r"\1^^\2")
    if pc.any(pc.match_substring(names, "\\")).as_py():
        names = pa.array([_ESCAPE.sub(_unescape, name) for name in names.to_pylist()], pa.large_string())
        blank = names.filter(pc.not_equal(pc.utf8_trim(names, WHITE), names))
        if len(blank) or pc.any(pc.equal(names, "")).as_py():
            name = shown(blank[0].as_py() if len(blank) else "")
            raise InputError(f"{path}: an IRI is {name} once its escapes are decoded, expected no white space in it")
    merged = names.dictionary_encode()  # different spellings of a term now have equal names
    return pa.DictionaryArray.from_arrays(merged.indices.take(encoded.indices), merged.dictionary)


def _unescape(match: re.Match[str]) -> str:
    letter, digits = match[0][1], match[0][2:]
    return chr(int(digits, 16)) if letter in "uU" else _ONE_CHARACTER[letter]


def _check_lines(path: Path, *, of_bytes: bool = False) -> WrongLines:
    """The lines that are not a triple, a comment or blank; if `of_bytes`, only those that are not UTF-8.

    Raises:
        InputError: the file is of another kind, can't be read, or is empty.
    """
    number, wrong = 0, WrongLines()
    try:
        if kind := foreign_kind(path):
            raise InputError(f"{path} is {kind}")
        for number, line in enumerate(lines_of(path), start=1):
            try:
                text = decode(path, number, line)
            except LineFault as fault:
                wrong.add(fault)
                continue
            if of_bytes:
                continue
            one = pa.array([text], pa.large_string())
            if pc.match_substring_regex(one, _TRIPLE)[0].as_py() or pc.match_substring_regex(one, _NOTHING)[0].as_py():
                continue
            what = f"expected a triple <head> <relation> <tail> . got {shown(text)}"
            wrong.add(LineFault(path, number, what, _NO_TRIPLE))
    except (EOFError, OSError) as error:
        raise InputError(f"{path} cannot be read after line {number}: {error}") from error
    if number == 0:
        raise InputError(f"{path} is empty, expected at least one triple")
    return wrong
