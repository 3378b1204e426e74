"""Folders of triples as text, read into a KnowledgeGraph with pyarrow: names are encoded block by block, in C++.

A file of 20 million triples is read in well under a minute, within a few times its size of memory.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Int64
from pyarrow import csv
from torch import Tensor

from graph.bad_line import check_lines, is_header
from graph.errors import InputError
from graph.graph_cache import cache_file, load_cached, save_cached, source_stamp
from graph.knowledge_graph import KnowledgeGraph, PackedNames, count_repeated

SPLITS = ("train", "valid", "test")
_SEPARATORS = {".txt": "\t", ".tsv": "\t", ".csv": ","}
_SUFFIXES = [text + packing for text in _SEPARATORS for packing in ("", ".gz")]
# A block has a dictionary of its own names until they are unified: small blocks would repeat most names many times.
_BLOCK_BYTES = 32 << 20
_log = logging.getLogger("advkge")
pc: Any = pyarrow.compute  # its functions are made when it is imported, where a type checker does not see them


def read_folder(path: str | Path | None, *, columns: str = "hrt", cache: str | Path | None) -> KnowledgeGraph:
    """The graph in a folder that has a train, a valid and a test file.

    Each file is .txt or .tsv (three columns separated by tabs, no quoting) or .csv (commas, standard quoting), or one
    of these packed with gzip (.gz); UTF-8, no header. Ids are made from all three: in order of first appearance (train,
    valid, test; of each the heads, then the tails), except that names which are all non-negative integers keep their
    numeric order, so that 0 ... n-1 keep their value.

    Args:
        path: the folder.
        columns: the order of head, relation and tail in the files: "hrt", or "htr" as OpenKE writes them.
        cache: a folder for the encoded graph, read instead of the files while these keep their sizes and times; None
            for no cache.

    Raises:
        InputError: naming the file and line (counted from 1), or the config key, and what was expected.
    """
    if sorted(str(columns)) != ["h", "r", "t"]:
        raise InputError(f"graph.columns must have each of h, r and t once, as in hrt or htr, is {columns!r}")
    if path is None:
        raise InputError("graph.path must name a folder with a train, a valid and a test file, is not set")
    folder = Path(path).expanduser()
    sources = _find_sources(folder)
    if cache is None:
        graph = _read_sources(folder.resolve().name, sources, columns)
    else:
        file = cache_file(Path(cache).expanduser(), folder, columns)
        stamp = source_stamp(sources.values(), columns)
        graph = load_cached(file, folder.resolve().name, stamp)
        if graph is None:
            graph = _read_sources(folder.resolve().name, sources, columns)
            save_cached(file, graph, stamp)
    if repeated := count_repeated(graph.test, graph.train):
        _log.warning("%s: %d of %d test triples are also in train", folder, repeated, len(graph.test))
    return graph


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a folder that may hold a split."""
    return [file for suffix in _SUFFIXES if (file := folder / (split + suffix)).is_file()]


def _find_sources(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"graph.path must name a folder, {folder} {'is a file' if folder.exists() else 'is missing'}")
    sources: dict[str, Path] = {}
    for split in SPLITS:
        found = split_files(folder, split)
        if not found:
            looked_for = ", ".join(split + suffix for suffix in _SUFFIXES)
            raise InputError(f"{folder} has no {split} file, expected one of {looked_for}")
        if len(found) > 1:
            names = " and ".join(file.name for file in found)
            raise InputError(f"{folder} has {names} for the same split, expected one {split} file")
        sources[split] = found[0]
    return sources


def _read_sources(name: str, sources: dict[str, Path], columns: str) -> KnowledgeGraph:
    tables = [_read_table(source, columns) for source in sources.values()]
    lengths = [len(table) for table in tables]
    triples = [torch.empty(length, 3, dtype=torch.int64) for length in lengths]
    head_columns = [(table["h"], out[:, 0]) for table, out in zip(tables, triples, strict=True)]
    tail_columns = [(table["t"], out[:, 2]) for table, out in zip(tables, triples, strict=True)]
    relation_columns = [(table["r"], out[:, 1]) for table, out in zip(tables, triples, strict=True)]
    in_turn = [column for pair in zip(head_columns, tail_columns, strict=True) for column in pair]
    entity_names, relation_names = _encode(in_turn), _encode(relation_columns)
    return KnowledgeGraph(name, entity_names, relation_names, *triples)


def _encode(columns: Sequence[tuple[pa.ChunkedArray, Int64[Tensor, " _"]]]) -> PackedNames:
    """Writes the ids of each column of names into the tensor beside it; gives the names in the order of their ids."""
    unified = pa.chunked_array([chunk for column, _ in columns for chunk in column.chunks]).unify_dictionaries()
    names = unified.chunk(0).dictionary
    order = _numeric_order(names)
    new_id = None
    if order is not None:
        names = names.take(order)
        new_id = np.empty(len(order), dtype=np.int64)
        new_id[order.to_numpy()] = np.arange(len(order))
    chunks = iter(unified.chunks)
    for column, out in columns:
        start = 0
        for _ in range(column.num_chunks):
            ids = next(chunks).indices.to_numpy()
            out[start : start + len(ids)] = torch.from_numpy(ids.astype(np.int64) if new_id is None else new_id[ids])
            start += len(ids)
    return _pack(names)


def _numeric_order(names: pa.Array) -> pa.Array | None:
    """Positions in order of value where every name is a non-negative integer of any length, else None."""
    if not pc.all(pc.match_substring_regex(names, "^[0-9]+$")).as_py():
        return None
    digits = pc.utf8_ltrim(names, "0")
    table = pa.table({"length": pc.binary_length(digits), "digits": digits})
    # The sort is stable: "7" and "07" stay two names, in order of appearance.
    return pc.sort_indices(table, sort_keys=[("length", "ascending"), ("digits", "ascending")])


def _pack(names: pa.Array) -> PackedNames:
    _, offsets, text = names.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    # Copies, because Arrow's buffers are read-only and torch has no such thing.
    packed = np.frombuffer(text, dtype=np.uint8)[starts[0] : starts[-1]].copy()
    return PackedNames(torch.from_numpy(packed), torch.from_numpy(starts - starts[0]))


def _read_table(path: Path, columns: str) -> pa.Table:
    """The dictionary-encoded columns h, r and t of one file."""
    separator = _SEPARATORS[path.suffixes[-2] if path.suffix == ".gz" else path.suffix]
    try:
        table = _parse(path, columns, separator, skip_blank_lines=False)
        if not _is_suspicious(table):
            return table
    except (pa.ArrowException, OSError):
        pass  # check_lines says which line, in our words
    check_lines(path, columns, separator)
    try:
        # No line is wrong, so what was suspicious was blank lines at the end, or names that only look empty.
        return _parse(path, columns, separator, skip_blank_lines=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _parse(path: Path, columns: str, separator: str, *, skip_blank_lines: bool) -> pa.Table:
    quoted = separator == ","
    # Offsets of 64 bits: the names of 100 million entities are more than 2 GiB.
    encoded = pa.dictionary(pa.int32(), pa.large_string())
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        return csv.read_csv(
            stream,
            read_options=csv.ReadOptions(column_names=list(columns), block_size=_BLOCK_BYTES),
            parse_options=csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                double_quote=quoted,
                escape_char=False,
                ignore_empty_lines=skip_blank_lines,
            ),
            convert_options=csv.ConvertOptions(
                check_utf8=True, strings_can_be_null=False, column_types=dict.fromkeys(columns, encoded)
            ),
        )


def _is_suspicious(table: pa.Table) -> bool:
    """Whether there is no triple, a header, an empty name (a blank line gives three), or one with a line end in it."""
    for column in table.columns:
        for chunk in column.chunks:
            names = chunk.dictionary
            if pc.any(pc.equal(pc.utf8_trim_whitespace(names), "")).as_py():
                return True
            if pc.any(pc.match_substring_regex(names, "[\r\n]")).as_py():
                return True
    return len(table) == 0 or is_header(str(column[0].as_py()) for column in table.columns)
