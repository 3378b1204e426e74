"""What the formats share: how a graph is to be read, a format, and the files of a folder that are in one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from graph.errors import InputError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ReadOptions:
    """The options of `graph.reading.read_folder`, which explains them."""

    format: str
    columns: str | None
    header: bool | str
    literals: bool
    strip: bool

    def __post_init__(self) -> None:
        if self.columns is not None and sorted(str(self.columns)) != ["h", "r", "t"]:
            raise InputError(f"graph.columns must have each of h, r and t once, as in hrt or htr, is {self.columns!r}")
        if self.header not in (True, False, "auto"):
            raise InputError(f"graph.header must be true, false or auto, is {self.header!r}")


@dataclass(frozen=True)
class Note:
    """A line for the log about how files were read."""

    text: str
    level: int = logging.INFO


def strip_note(path: Path, count: int) -> Note:
    """What graph.strip did to a file."""
    return Note(f"{path.name}: white space at the edge of {count:,} names was cut off (graph.strip)", logging.WARNING)


@dataclass(frozen=True)
class SplitTable:
    """A split as read from its files: dictionary-encoded text columns h, r and t."""

    table: pa.Table
    notes: Sequence[Note] = ()
    header: tuple[str, ...] | None = None
    """The first line, if it was skipped as a header."""


@dataclass(frozen=True, eq=False)
class Format:
    """A way to keep triples in files."""

    name: str
    """As graph.format says it."""
    title: str
    """As a person says it."""
    patterns: Callable[[str], Sequence[str]]
    """Names that a split's file may have, for `fnmatch`."""
    read: Callable[[Sequence[Path], ReadOptions], SplitTable]
    """Reads the files of one split."""
    dictionaries: Sequence[tuple[str, str]] = ()
    """Names that the files of entity and relation ids may have."""
    by_id: bool | None = None
    """Whether triples are of ids (True) or of names (False) of these dictionaries; None without dictionaries."""
    many: bool = False
    """Whether a split may have several files."""
    has_header: bool = True
    """Whether such files may have a line of column names."""


@dataclass(frozen=True)
class Found:
    """The files of a folder."""

    folder: Path
    formats: Sequence[Format]
    """The format, or several that differ only in what their triples say."""
    splits: Mapping[str, Sequence[Path]]
    """By split, train first; without those that the folder does not have."""
    dictionaries: Sequence[Path] = field(default=())
    """The files of entity and of relation ids, if the format has such."""

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*(path for paths in self.splits.values() for path in paths), *self.dictionaries]
