"""Reads queries, as names, from a file or from options, and turns them into ids."""

import codecs
import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.errors import InputError
from graph.format.file_kind import foreign_kind
from graph.format.lines import LONGEST_LINE, lines_of
from graph.format.text_check import cells_of, decode, shown
from graph.format.wrong_lines import LineFault
from graph.knowledge_graph import KnowledgeGraph
from graph.name_lookup import NameLookup

ASKED = -1
"""In place of an id: this is what the query asks for."""
MARK = "?"
"""The same in a file."""
_PLACES = ("head", "relation", "tail")
_ESCAPE = re.compile(r"\\([\\tnr])")
_MEANT = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


@dataclass(frozen=True)
class Query:
    """Head, relation and tail by name; at most one of them is None, which the query asks for."""

    parts: tuple[str | None, str | None, str | None]
    source: str
    """Where it was read, for errors: a file and a line. Empty for one that was typed as options."""


def typed_query(head: str | None, relation: str | None, tail: str | None) -> Query:
    """A query from the options head, relation and tail; one that is `?` is what it asks for, as one that is left out.

    Raises:
        InputError: fewer than two of them are given.
    """
    parts = (None if head == MARK else head, None if relation == MARK else relation, None if tail == MARK else tail)
    if parts.count(None) > 1:
        given = " and ".join(f"{name}={part}" for name, part in zip(_PLACES, parts, strict=True) if part is not None)
        raise InputError(
            f"at least two of head=, relation= and tail= must be given, or queries=FILE, got {given or 'none of them'}"
        )
    return Query(parts, "")


def read_queries(path: Path) -> list[Query]:
    """The queries of a text file, which may be packed as .gz: a line has head, relation and tail.

    They are separated by tabs, or by commas, with the usual quotes, if the name ends in .csv or .csv.gz. One of them
    may be `?`, which the query asks for. Blank lines are passed over.

    Raises:
        InputError: the file can't be read, a line is wrong, or there is no query. Names the line.
    """
    queries, number = [], 0
    try:
        if kind := foreign_kind(path):
            raise InputError(f"queries: {path} is {kind}")
        for number, line in enumerate(lines_of(path), start=1):
            if line not in (b"", codecs.BOM_UTF8):
                queries.append(_parsed(path, number, line))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"queries: {path}: the gzip stream is damaged after line {number}") from error
    except OSError as error:
        raise InputError(f"queries: {path} can't be read: {error.strerror or error}") from error
    if not queries:
        raise InputError(f"queries: {path} has no queries, expected at least one line")
    return queries


def _parsed(path: Path, number: int, line: bytes) -> Query:
    if len(line) > LONGEST_LINE:
        raise LineFault(path, number, f"is longer than {LONGEST_LINE >> 20} MiB, expected a query")
    separator = "," if path.name.removesuffix(".gz").endswith(".csv") else "\t"
    cells = cells_of(path, number, decode(path, number, line), separator)
    if len(cells) != 3:
        found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        commas = b"\t" not in line and line.count(b",") >= 2
        advice = "; this line has commas: such a file is named .csv" if commas and separator == "\t" else ""
        by = "tabs" if separator == "\t" else "commas"
        raise LineFault(path, number, f"{found}, expected head, relation and tail, separated by {by}{advice}")
    if cells.count(MARK) > 1:
        raise LineFault(
            path, number, f"{cells.count(MARK)} question marks, expected one at most: {shown(' '.join(cells))}"
        )
    head, relation, tail = (None if cell == MARK else cell for cell in cells)
    return Query((head, relation, tail), f"{path}, line {number}")


class QueryIds:
    """Finds the ids of the names in queries.

    A name is taken as it stands. If there is no such name, it is read as `launch/export.py` and predictions write it,
    with a backslash before a backslash, and `t`, `n` or `r` after one for a tab and ends of lines.
    """

    def __init__(self, graph: KnowledgeGraph) -> None:
        self._graph = graph
        self._entities = NameLookup(graph.entity_names)
        self._relations = NameLookup(graph.relation_names)

    def of(self, queries: Sequence[Query]) -> Int64[Tensor, "Q 3"]:
        """Head, relation and tail of each query; `ASKED` where it has none.

        Raises:
            InputError: a name that the graph does not have; says where it was read, and names that look like it.
        """
        columns = []
        for place in range(3):
            columns.append(self._column([query.parts[place] for query in queries], relations=place == 1))
        ids = torch.tensor(columns, dtype=torch.int64).view(3, -1).T
        (wrong,) = torch.nonzero((ids < ASKED).any(1), as_tuple=True)
        if len(wrong):
            query = queries[int(wrong[0])]
            place = int((ids[wrong[0]] < ASKED).nonzero()[0])
            name = query.parts[place]
            assert name is not None
            raise InputError(self.unknown(name, relations=place == 1, source=query.source or _PLACES[place]))
        return ids

    def entity(self, name: str, option: str) -> int:
        """The id of an entity; raises InputError with the option's name if there is none."""
        return self._one(name, option, relations=False)

    def relation(self, name: str, option: str) -> int:
        """The same for a relation."""
        return self._one(name, option, relations=True)

    def has_relation(self, name: str) -> bool:
        """Whether the graph has a relation of this name."""
        return self._column([name], relations=True)[0] >= 0

    def unknown(self, name: str, *, relations: bool, source: str) -> str:
        """The error text for a name that the graph does not have."""
        near = (self._relations if relations else self._entities).near(name)
        kind = "relation" if relations else "entity"
        meant = f"; did you mean {' or '.join(map(shown, near))}?" if near else ""
        return f"{source}: {self._graph.name} has no {kind} {shown(name)}{meant}"

    def _one(self, name: str, option: str, *, relations: bool) -> int:
        number = self._column([name], relations=relations)[0]
        if number < 0:
            raise InputError(self.unknown(name, relations=relations, source=option))
        return number

    def _column(self, names: Sequence[str | None], *, relations: bool) -> list[int]:
        """The id of each name; `ASKED` for None, and below that for a name that is not there."""
        lookup = self._relations if relations else self._entities
        given = [name for name in names if name is not None]
        ids = dict(zip(given, lookup.ids(given), strict=True))
        escaped = [name for name, number in ids.items() if number is None and "\\" in name]
        meant = [_ESCAPE.sub(lambda found: _MEANT[found[1]], name) for name in escaped]
        ids |= zip(escaped, lookup.ids(meant), strict=True)
        return [ASKED if name is None else _or_missing(ids[name]) for name in names]


def _or_missing(number: int | None) -> int:
    return ASKED - 1 if number is None else number
