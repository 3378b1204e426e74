"""From dictionary-encoded columns of names to ids in tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Int64
from torch import Tensor

pc: Any = pyarrow.compute  # its functions are made when it is imported, where a type checker does not see them


@dataclass(frozen=True)
class Column:
    """A column of a file, and where its ids go."""

    path: Path
    letter: str
    """h, r or t."""
    text: pa.ChunkedArray
    ids: Int64[Tensor, " _"]


@dataclass
class Encoding:
    """Columns of names that share ids."""

    columns: Sequence[Column]
    names: pa.Array
    """All different names, first in order of appearance; then by id."""
    chunks: Sequence[pa.DictionaryArray]
    """The chunks of all columns, one after the other; their indices are places in the names as they first were."""
    new_id: np.ndarray | None = None
    """The id of each name as they first were; None if that is its place."""

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
        """Gives each name in order of appearance another id; `names` are all names by these."""
        self.names, self.new_id = names, new_id

    def write(self) -> None:
        """Writes the ids of each column into its tensor."""
        chunks = iter(self.chunks)
        for column in self.columns:
            start = 0
            for _ in range(column.text.num_chunks):
                ids = next(chunks).indices.to_numpy()
                numbers = ids.astype(np.int64) if self.new_id is None else self.new_id[ids]
                column.ids[start : start + len(ids)] = torch.from_numpy(numbers)
                start += len(ids)

    def first_place(self, place: int) -> tuple[Column, int]:
        """The column and the row, from 0, where the name stands that appeared at this place."""
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
    """Positions in order of value where every name is a non-negative integer of any length, else None."""
    if not pc.all(pc.match_substring_regex(names, "^[0-9]+$")).as_py():
        return None
    digits = pc.utf8_ltrim(names, "0")
    table = pa.table({"length": pc.binary_length(digits), "digits": digits})
    # The sort is stable: "7" and "07" stay two names, in order of appearance.
    return pc.sort_indices(table, sort_keys=[("length", "ascending"), ("digits", "ascending")])
