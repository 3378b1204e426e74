"""Types that all formats share: the options for reading, a format, and the files found in a folder."""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from graph.errors import InputError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ReadOptions:
    """The options of `graph.reading.read_folder`, described there."""

    format: str
    columns: str | None
    header: bool | str
    literals: bool
    strip: bool
    wrong_lines: Counter[str] | None = field(default=None, repr=False)  # no part of the key of a graph cache
    """Text and N-Triples only. A counter: wrong lines are left out, and counted there by reason. None: an error."""

    def __post_init__(self) -> None:
        if self.columns is not None and sorted(str(self.columns)) != ["h", "r", "t"]:
            raise InputError(f"graph.columns must have each of h, r and t once, as in hrt or htr, is {self.columns!r}")
        if self.header not in (True, False, "auto"):
            raise InputError(f"graph.header must be true, false or auto, is {self.header!r}")


@dataclass(frozen=True)
class Note:
    """A line to log about how files were read."""

    text: str
    level: int = logging.INFO


def strip_note(path: Path, count: int) -> Note:
    """A warning that graph.strip changed `count` names of a file."""
    return Note(f"{path.name}: white space at the edge of {count:,} names was cut off (graph.strip)", logging.WARNING)


@dataclass(frozen=True)
class Ending:
    """What is known of a split when all of it is read."""

    notes: Sequence[Note] = ()
    header: tuple[str, ...] | None = None
    """The first line if it was skipped as a header, else None."""


Pieces = Generator[pa.Table, None, Ending]
"""The triples of a split, some of them at a time, so that memory does not grow with them.

Columns h, r and t are dictionary-encoded text, or integers, whose digits are the names."""


@dataclass(frozen=True, eq=False)
class Format:
    """A file format of triples."""

    name: str
    """Its value of graph.format."""
    title: str
    """Its name in messages."""
    patterns: Callable[[str], Sequence[str]]
    """Patterns for `fnmatch` of the names that a split's file may have."""
    read: Callable[[Sequence[Path], ReadOptions], Pieces]
    """Reads the files of one split. Nothing is read before the first piece is asked for."""
    dictionaries: Sequence[tuple[str, str]] = ()
    """Pairs of names that the lists of entities and of relations may have."""
    by_id: bool | None = None
    """True: triples have ids of these lists. False: they have names of them. None: there are no lists."""
    many: bool = False
    """Whether a split may have several files."""
    has_header: bool = True
    """Whether files may begin with a line of column names."""


@dataclass(frozen=True)
class Found:
    """The files that a graph is read from."""

    folder: Path
    formats: Sequence[Format]
    """The format, or several that have the same file names and differ in the content of the triples."""
    splits: Mapping[str, Sequence[Path]]
    """The files of each split, train first; splits without files are left out."""
    dictionaries: Sequence[Path] = field(default=())
    """The lists of entities and of relations, if the format has them."""

    @property
    def files(self) -> list[Path]:
        """All files: of the splits, then the lists."""
        return [*(path for paths in self.splits.values() for path in paths), *self.dictionaries]
