"""Turns columns of names, dictionary-encoded by pyarrow, into tensors of ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Int
from torch import Tensor

pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them


@dataclass(frozen=True)
class Column:
    """A column of names from a file, and the tensor that its ids are written to."""

    path: Path
    letter: str
    """h, r or t."""
    text: pa.ChunkedArray
    ids: Int[Tensor, " _"]


@dataclass
class Encoding:
    """Columns of names that are numbered together, such as all heads and tails."""

    columns: Sequence[Column]
    names: pa.Array
    """The distinct names in the order of their ids."""
    chunks: Sequence[pa.DictionaryArray]
    """The chunks of all columns in turn; their indices count names in order of appearance."""
    new_id: np.ndarray | None = None
    """The id of each name, names in order of appearance; None if the ids are 0, 1, 2 ... in that order."""

    @classmethod
    def of(cls, columns: Sequence[Column]) -> "Encoding":
        """Numbers names in order of appearance, except that non-negative integers keep their numeric order."""
        unified = pa.chunked_array([chunk for column in columns for chunk in column.text.chunks]).unify_dictionaries()
        encoding = cls(columns, unified.chunk(0).dictionary, unified.chunks)
        order = _numeric_order(encoding.names)
        if order is not None:
            new_id = np.empty(len(order), dtype=np.int64)
            new_id[order.to_numpy()] = np.arange(len(order))
            encoding.renumber(encoding.names.take(order), new_id)
        return encoding

    @property
    def read_names(self) -> pa.Array:
        """The names in order of appearance."""
        return self.chunks[0].dictionary

    def renumber(self, names: pa.Array, new_id: np.ndarray) -> None:
        """Sets new ids: `new_id` is in order of appearance, `names` lists all names in order of the new ids."""
        self.names, self.new_id = names, new_id

    def write(self) -> None:
        """Writes the ids of each column into its tensor."""
        chunks = iter(self.chunks)
        for column in self.columns:
            start = 0
            for _ in range(column.text.num_chunks):
                ids = next(chunks).indices.to_numpy()
                numbers = ids if self.new_id is None else self.new_id[ids]
                column.ids[start : start + len(ids)].numpy()[:] = numbers
                start += len(ids)

    def first_place(self, place: int) -> tuple[Column, int]:
        """Where a name first appears: the column, and the row counted from 0.

        Args:
            place: the number of the name in order of appearance.
        """
        chunks = iter(self.chunks)
        for column in self.columns:
            start = 0
            for _ in range(column.text.num_chunks):
                indices = next(chunks).indices
                row = pc.index(indices, place).as_py()
                if row >= 0:
                    return column, start + row
                start += len(indices)
        raise IndexError(place)


def _numeric_order(names: pa.Array) -> pa.Array | None:
    """Positions of the names sorted by value if every name is a non-negative integer of any length, else None."""
    if not pc.all(pc.match_substring_regex(names, "^[0-9]+$")).as_py():
        return None
    digits = pc.utf8_ltrim(names, "0")
    table = pa.table({"length": pc.binary_length(digits), "digits": digits})
    # The sort is stable: "7" and "07" stay two names, in order of appearance.
    return pc.sort_indices(table, sort_keys=[("length", "ascending"), ("digits", "ascending")])
