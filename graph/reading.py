"""Folders of triples, read into a KnowledgeGraph: the format is recognised, then names become ids with pyarrow."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64
from torch import Tensor

from graph.encoding import Column, Encoding
from graph.errors import InputError
from graph.folder import folder_at
from graph.format.ids import number_names
from graph.format.recognise import recognise
from graph.format.source import SPLITS, Found, Note, ReadOptions, SplitTable
from graph.format.text import TEXT
from graph.graph_cache import cache_file, load_cached, save_cached, source_stamp
from graph.header import header_splits
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from graph.same_names import equal_after_nfc, equal_but_for_quotes

# A share of reversed test triples that changes what a test says. FB15k has 81 %, WN18 94 %; FB15k-237 and WN18RR were
# made to have few.
_MANY_REVERSED = 0.05
_log = logging.getLogger("advkge")


def read_folder(
    path: str | Path | None,
    *,
    format: str = "auto",
    columns: str | None = None,
    header: bool | str = "auto",
    literals: bool = False,
    strip: bool = False,
    cache: str | Path | None,
) -> KnowledgeGraph:
    """The graph in a folder that has a train file and mostly a valid and a test file.

    Ids are made from all three: in order of first appearance (train, valid, test; of each the heads, then the tails),
    except that names which are all non-negative integers keep their numeric order, so that 0 ... n-1 keep their value.
    A format that has lists of its entities and relations keeps the ids that are there.

    Args:
        path: the folder.
        format: "text", "ntriples", "parquet", "openke", "libkge", "dglke" or "rotate", each described in its file in
            graph/format/; "auto": by the names of the files.
        columns: the order of head, relation and tail in the files, such as "hrt" or "htr"; None: the format's own.
        header: whether the first line of each file is skipped; "auto": none is, and one that looks like a header is
            refused (see `graph.header`).
        literals: whether triples of N-Triples whose tail is a literal are kept.
        strip: whether white space at the edges of names is cut off. It is refused otherwise.
        cache: a folder for the encoded graph, read instead of the files while these keep their sizes and times; None
            for no cache.

    Raises:
        InputError: naming the file and line (counted from 1), or the config key, and what was expected.
    """
    options = ReadOptions(format, columns, header, literals, strip)
    if path is None:
        raise InputError("graph.path must name a folder with a train, a valid and a test file, is not set")
    folder = folder_at(path, "graph.path")
    found = recognise(folder, format)
    if cache is None:
        graph, notes = _read_found(folder, found, options)
    else:
        file = cache_file(folder_at(cache, "graph.cache"), folder, options)
        stamp = source_stamp(found.files, options)
        kept = load_cached(file, folder.resolve().name, stamp)
        if kept is None:
            kept = _read_found(folder, found, options)
            save_cached(file, *kept, stamp)
        graph, notes = kept
    for note in [*notes, *_leak_notes(graph)]:
        _log.log(note.level, "%s: %s", folder, note.text)
    return graph


def _leak_notes(graph: KnowledgeGraph) -> list[Note]:
    """Warnings of what makes validation or test easier than they should be."""
    leaks, valid, test = graph.leaks, len(graph.valid), len(graph.test)
    by_chance = len(graph.train) / graph.num_entities**2  # in a dense graph, most pairs are linked both ways
    texts = []
    if leaks.valid_in_train:
        text = (
            f"{leaks.valid_in_train} of {valid} valid triples are also in train: early stopping is decided by them too"
        )
        texts.append(text)
    if leaks.test_in_train:
        texts.append(f"{leaks.test_in_train} of {test} test triples are also in train")
    if leaks.test_in_valid:
        text = f"{leaks.test_in_valid} of {test} test triples are also in valid, which chooses the model that is tested"
        texts.append(text)
    for split, reversed_triples, count in (("valid", leaks.valid_reversed, valid), ("test", leaks.test_reversed, test)):
        if reversed_triples > max(_MANY_REVERSED, 2 * by_chance) * count:
            texts.append(
                f"{reversed_triples} of {count} {split} triples ({reversed_triples / count:.0%}) are in train the "
                "other way round, under another relation: inverse relations give them away"
            )
    return [Note(text, logging.WARNING) for text in texts]


def _read_found(folder: Path, found: Found, options: ReadOptions) -> tuple[KnowledgeGraph, list[Note]]:
    first = found.formats[0]
    if options.header is True and not first.has_header:
        raise InputError(f"graph.header is true, but {first.title} has no line of column names")
    parts = {split: first.read(paths, options) for split, paths in found.splits.items()}
    notes = [note for part in parts.values() for note in part.notes] + _header_notes(found, parts)
    triples = {split: torch.empty(len(part.table), 3, dtype=torch.int64) for split, part in parts.items()}
    columns = {
        letter: [
            Column(found.splits[split][0], letter, part.table[letter], triples[split][:, "hrt".index(letter)])
            for split, part in parts.items()
        ]
        for letter in "hrt"
    }
    in_turn = [column for pair in zip(columns["h"], columns["t"], strict=True) for column in pair]
    entities, relations = Encoding.of(in_turn), Encoding.of(columns["r"])
    format = number_names(found, entities, relations, options)
    for encoding in (entities, relations):
        encoding.write()
    if options.header == "auto" and format.has_header and not found.dictionaries:
        _refuse_headers(found, entities.names, relations.names, triples)
    if format is not TEXT:
        notes.insert(0, Note(f"read as {format.title}: {', '.join(file.name for file in found.files)}"))
    notes += [*_same_name_notes("entities", entities.names), *_same_name_notes("relations", relations.names)]
    empty = torch.empty(0, 3, dtype=torch.int64)
    graph = KnowledgeGraph(
        folder.resolve().name,
        _pack(entities.names),
        _pack(relations.names),
        *(triples.get(split, empty) for split in SPLITS),
    )
    return graph, notes


def _header_notes(found: Found, parts: Mapping[str, SplitTable]) -> list[Note]:
    """What was skipped as a header, which must be the same in all files."""
    skipped = {split: part.header for split, part in parts.items() if part.header is not None}
    if len(set(skipped.values())) > 1:
        lines = "; ".join(f"{found.splits[split][0].name}: {', '.join(cells)}" for split, cells in skipped.items())
        raise InputError(f"graph.header is true, but the first lines of the files of {found.folder} differ ({lines})")
    return [Note(f"skipped the first line of each file, a header ({', '.join(cells)})") for cells in skipped.values()][
        :1
    ]


def _refuse_headers(
    found: Found, entities: pa.Array, relations: pa.Array, triples: Mapping[str, Int64[Tensor, "_ 3"]]
) -> None:
    firsts = [
        (entities[int(h)].as_py(), relations[int(r)].as_py(), entities[int(t)].as_py())
        for h, r, t in (rows[0] for rows in triples.values())
    ]
    headers = header_splits(list(triples.values()), firsts)
    if not headers:
        return
    path = list(found.splits.values())[headers[0]][0]
    if len(headers) == len(triples):
        advice = "graph.header=true skips the first line of each file"
    else:
        advice = "take the line out of this file, the others do not all have one"
    raise InputError(
        f"{path}, line 1: a header ({', '.join(firsts[headers[0]])}), expected a triple: {advice}; "
        "graph.header=false reads it as a triple"
    )


def _same_name_notes(what: str, names: pa.Array) -> list[Note]:
    notes = []
    for same, difference in (
        (equal_after_nfc(names), "have names that differ in bytes alone and look the same (Unicode NFC)"),
        (equal_but_for_quotes(names), "have a name in quotes that another one has without"),
    ):
        if same is not None:
            count, pair = same
            shown_pair = " and ".join(ascii(name) for name in pair)
            notes.append(Note(f"{count:,} {what} {difference}, as {shown_pair}: they are kept apart", logging.WARNING))
    return notes


def _pack(names: pa.Array) -> PackedNames:
    _, offsets, text = names.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    # Copies, because Arrow's buffers are read-only and torch has no such thing.
    packed = np.frombuffer(text or b"", dtype=np.uint8)[starts[0] : starts[-1]].copy()
    return PackedNames(torch.from_numpy(packed), torch.from_numpy(starts - starts[0]))
