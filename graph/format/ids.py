"""Takes ids from the lists of entities and relations that some formats have beside the triples."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from graph.encoding import Encoding
from graph.errors import InputError
from graph.format.dictionary import read_dictionary
from graph.format.openke import OPENKE
from graph.format.source import Format, Found, ReadOptions
from graph.format.text_check import COLUMN_NAMES, shown
from graph.format.wrong_lines import LineFault

pc: Any = pyarrow.compute


def number_names(found: Found, entities: Encoding, relations: Encoding, options: ReadOptions) -> Format:
    """Numbers names by the folder's lists if there are lists, else as they appear. Returns the triples' format.

    Raises:
        InputError: a triple has a name or id that is not in the lists, or the triples could be names as well as ids.
    """
    if not found.dictionaries:
        for encoding in (entities, relations):
            encoding.in_order()
        return found.formats[0]
    lists = [read_dictionary(path, strip=options.strip) for path in found.dictionaries]
    encodings = (entities, relations)
    ids = {
        format: [_ids(encoding.names, names, format) for encoding, names in zip(encodings, lists, strict=True)]
        for format in found.formats
    }
    format = _decide(found, ids)
    for encoding, names, path, new_id in zip(encodings, lists, found.dictionaries, ids[format], strict=True):
        if (new_id < 0).any():
            split, letter, row, place = encoding.first_place(new_id < 0)
            line = 1 + row + int(format is OPENKE or options.header is True)
            name = shown(encoding.names[place].as_py())
            what = f"an id of 0 to {len(names) - 1}, as" if format.by_id else "a name"
            found_name = f"the {COLUMN_NAMES[letter]} is {name}"
            file = found.splits[split][0]
            raise LineFault(file, line, f"{found_name}, expected {what} in {path.name}{_advice(format)}")
        encoding.renumber(names, new_id)
    return format


def _advice(format: Format) -> str:
    return "" if format in (OPENKE,) else "; graph.columns=htr or another order may be the file's"


def _ids(read: pa.Array, names: pa.Array, format: Format) -> np.ndarray:
    """The id of each name that was read; -1 if it has none."""
    if not format.by_id:
        return pc.index_in(read, value_set=names).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    digits = pc.if_else(pc.match_substring_regex(read, "^[0-9]{1,18}$"), read, "-1")
    numbers = digits.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.where(numbers < len(names), numbers, -1)


def _decide(found: Found, ids: dict[Format, list[np.ndarray]]) -> Format:
    """The format that all names fit; if there is none, the format that most names fit."""
    fitting = [format for format, arrays in ids.items() if all((array >= 0).all() for array in arrays)]
    if len(fitting) > 1 and not all(
        np.array_equal(one, other) for one, other in zip(ids[fitting[0]], ids[fitting[1]], strict=True)
    ):
        choices = " or ".join(f"graph.format={format.name} ({format.title})" for format in fitting)
        raise InputError(f"{found.folder}: its triples may be ids or names that are numbers; say which by {choices}")
    return fitting[0] if fitting else max(ids, key=lambda format: sum(int((array >= 0).sum()) for array in ids[format]))
