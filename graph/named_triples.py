"""Reads triples from a file by the names of a graph that is there already, such as negatives that a user wrote down."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Int64
from torch import Tensor

from graph.arrow_names import as_array
from graph.errors import InputError
from graph.format.source import ReadOptions
from graph.format.text import TEXT
from graph.format.text_check import COLUMN_NAMES, shown
from graph.format.unsplit import format_of, usual_names

pc: Any = pyarrow.compute


def read_named(path: Path, entities: Sequence[str], relations: Sequence[str], key: str) -> Int64[Tensor, "T 3"]:
    """The triples (head, relation, tail) of a file as ids, in its order; they may repeat.

    Args:
        path: text with tabs (.txt, .tsv) or commas (.csv), N-Triples or Parquet, without a header.
        entities, relations: the names of all ids.
        key: the option that gave the path, for errors.

    Raises:
        InputError: the file can't be read, or a name is not one of these; names the option, the file and the line.
    """
    if not path.is_file():
        raise InputError(f"{key} must name a file of triples, {path} is {'a folder' if path.is_dir() else 'missing'}")
    format = format_of(path.name)
    if format is None:
        raise InputError(f"{key}: {path} is in no format that is read, expected a name like {', '.join(usual_names())}")
    try:
        pieces = list(format.read([path], ReadOptions("auto", None, header=False, literals=True, strip=False)))
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    triples = torch.empty(sum(map(len, pieces)), 3, dtype=torch.int64)
    for place, letter in enumerate("hrt"):
        what, names = ("relation", relations) if letter == "r" else ("entity", entities)
        column = pa.chunked_array([chunk for piece in pieces for chunk in _as_text(piece[letter]).chunks])
        ids = _ids(column, as_array(names))
        if (ids < 0).any():
            row = int(np.argmax(ids < 0))
            line = f"line {row + 1}" if format is TEXT else f"triple {row + 1}"
            name = shown(column[row].as_py())
            raise InputError(f"{key}: {path}, {line}: the {COLUMN_NAMES[letter]} {name} is no {what} of the graph")
        triples[:, place] = torch.from_numpy(ids)
    return triples


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of integers, as Parquet has them, as dictionary-encoded text; others as they are."""
    return column if pa.types.is_dictionary(column.type) else column.cast(pa.large_string()).dictionary_encode()


def _ids(column: pa.ChunkedArray, names: pa.Array) -> np.ndarray:
    """The place of each name of a column; -1 for one that is not there."""
    parts = [
        np.append(pc.index_in(chunk.dictionary, value_set=names).fill_null(-1).to_numpy(), 0)[chunk.indices.to_numpy()]
        for chunk in column.chunks
    ]
    return np.concatenate(parts).astype(np.int64)
