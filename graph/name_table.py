"""Numbers names that come in pieces. Memory grows with the distinct names, and with one piece."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from graph.text_names import TextNames

pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them
_LARGEST = 1 << 28
"""Integers below this number are their own numbers, as long as all names are such."""
_DIGITS = "^(0|[1-9][0-9]{0,8})$"
_TEXT = pa.large_string()


class NameTable:
    """Gives each name that it is shown a number below 2^31.

    As long as all names are integers below 2^28, written without further zeros, an integer is its own number, and no
    text is stored. Any other names are numbered as they come.

    Args:
        folder: for a file of their text, see `Growing`.
    """

    def __init__(self, folder: Path | None) -> None:
        self._seen: np.ndarray | None = np.zeros(0, dtype=np.bool_)
        """Which integers are names; None: names are text."""
        self._names = TextNames(folder)

    @property
    def is_integers(self) -> bool:
        """Whether all names so far are integers that are their own numbers."""
        return self._seen is not None

    def numbers(self, columns: Sequence[pa.Array]) -> tuple[list[np.ndarray], np.ndarray | None]:
        """The numbers of the names in each column, and what the numbers given before have become, by number.

        Args:
            columns: integers, or dictionary-encoded text.
        Returns:
            The numbers; and None if those that were given before stay as they are.
        """
        if self._seen is not None:
            found = [_integers(column) for column in columns]
            if all(each is not None for each in found):
                return [self._note(*each) for each in found if each is not None], None
        became = self._as_text()
        encoded = [column if pa.types.is_dictionary(column.type) else _digits(column) for column in columns]
        return [self._names.numbers(column.dictionary)[column.indices.to_numpy()] for column in encoded], became

    def finish(self) -> tuple[pa.Array, np.ndarray | None]:
        """All names, and the place in them of each number; None: number n is at place n. Integers ascend."""
        if self._seen is None:
            return self._names.array(), None
        values = np.flatnonzero(self._seen)
        names = pa.array(values).cast(_TEXT)
        return names, None if len(values) == len(self._seen) else self._places(values)

    def _places(self, values: np.ndarray) -> np.ndarray:
        assert self._seen is not None
        place = np.zeros(len(self._seen), dtype=np.int32)
        place[values] = np.arange(len(values), dtype=np.int32)
        return place

    def _as_text(self) -> np.ndarray | None:
        if self._seen is None:
            return None
        values = np.flatnonzero(self._seen)
        became = self._places(values)
        self._seen = None
        given = self._names.numbers(pa.array(values).cast(_TEXT))
        return given[became] if len(values) else None

    def _note(self, distinct: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Notes which integers are names; returns the rows."""
        assert self._seen is not None
        if len(distinct):
            size = int(distinct.max()) + 1
            if size > len(self._seen):
                grown = np.zeros(size, dtype=np.bool_)
                grown[: len(self._seen)] = self._seen
                self._seen = grown
            self._seen[distinct] = True
        return rows


def _integers(column: pa.Array) -> tuple[np.ndarray, np.ndarray] | None:
    """The integers that a column has at all, and that of each row; None if its names are not such integers."""
    if not pa.types.is_dictionary(column.type):
        rows = column.to_numpy()
        if len(rows) and (rows.min() < 0 or rows.max() >= _LARGEST):
            return None
        rows = rows.astype(np.int32)
        return rows, rows
    if not pc.all(pc.match_substring_regex(column.dictionary, _DIGITS)).as_py():
        return None
    distinct = column.dictionary.cast(pa.int32()).to_numpy()
    if len(distinct) and distinct.max() >= _LARGEST:
        return None
    return distinct, distinct[column.indices.to_numpy()]


def _digits(column: pa.Array) -> pa.DictionaryArray:
    """Integers as text."""
    encoded = column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(_TEXT))
