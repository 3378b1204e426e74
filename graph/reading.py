"""Reads a folder of triples into a KnowledgeGraph: recognises the format, then turns names into ids piece by piece."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Int
from torch import Tensor

from graph.arrow_names import packed
from graph.checked_file import writable_folder
from graph.column_names import in_words, order_of
from graph.column_order import doubt_of_columns
from graph.encoding import Encoder
from graph.errors import InputError
from graph.folder import folder_at
from graph.format.ids import number_names
from graph.format.parquet import PARQUET
from graph.format.recognise import recognise
from graph.format.source import Ending, Found, Note, Pieces, ReadOptions
from graph.format.text import TEXT
from graph.graph_cache import cache_file, load_cached, save_cached, source_stamp
from graph.header import header_splits
from graph.knowledge_graph import KnowledgeGraph
from graph.same_names import equal_after_nfc, equal_but_for_quotes

# Above this share of reversed triples, results say little about the model. FB15k has 81 %, WN18 94 %; FB15k-237 and
# WN18RR were made to have few.
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
    """Reads the graph in a folder with a train file and usually a valid and a test file.

    Entities are numbered in order of appearance: the heads of train, its tails, then likewise valid and test. Names
    that are all non-negative integers are numbered in numeric order instead, so names 0 ... n-1 are their own ids. A
    format with lists of entities and relations keeps the ids of these lists. What was skipped, repeated or suspicious
    is logged.

    Example: `read_folder("data/umls", cache=None).train` is an int32 tensor [T, 3] of head, relation and tail.

    Args:
        path: the folder.
        format: "text", "ntriples", "parquet", "openke", "libkge", "dglke" or "rotate"; graph/format/ describes each
            in a file. "auto": recognised by the names of the files.
        columns: the order of head, relation and tail in the files, such as "hrt" or "htr"; None: that of a header's
            words if `header` is true and these are usual, else the format's own.
        header: True: skip the first line of each file. False: read it as a triple. "auto": read it, but raise an error
            if it looks like a header (see `graph.header`).
        literals: N-Triples only. True: keep triples whose tail is a literal. False: leave them out.
        strip: True: remove white space at the ends of names. False: raise an error for such names.
        cache: a folder to keep the encoded graph in. It is read instead of the files as long as these keep their names,
            sizes and times. Triples are in a file there while they are read. None: no cache; that file is where the
            system has its temporary files.

    Raises:
        InputError: names the file and the line (counted from 1), or the config key, and what was expected.
    """
    options = ReadOptions(format, columns, header, literals, strip)
    if path is None:
        raise InputError("graph.path must name the folder of your triples, as in graph.path=DIR, got null")
    folder = folder_at(path, "graph.path")
    if folder.is_file():
        raise InputError(
            f"graph.path must name a folder with a train file, {folder} is a file: split it first, "
            f"advkge prepare path={folder} out=DIR, and type graph.path=DIR"
        )
    found = recognise(folder, format)
    name = folder.resolve().name
    if cache is None:
        graph, notes = read_found(name, found, options)
    else:
        file = cache_file(folder_at(cache, "graph.cache"), folder, options)
        graph, notes = _cached(file, name, found, options)
    for note in [*notes, *_leak_notes(graph)]:
        _log.log(note.level, "%s: %s", folder, note.text)
    return graph


def _cached(file: Path, name: str, found: Found, options: ReadOptions) -> tuple[KnowledgeGraph, list[Note]]:
    """What `read_found` gives, from its copy in a file of the cache; makes the copy if there is none of these files."""
    stamp = source_stamp(found.files, options)
    kept = load_cached(file, name, stamp)
    if kept is None:
        kept = read_found(name, found, options, writable_folder(file.parent))
        if save_cached(file, *kept, stamp):
            # The mapped file takes the place of what was read: it is shared by ranks, and can leave the memory.
            kept = load_cached(file, name, stamp) or kept
        pa.default_memory_pool().release_unused()
    return kept


def _leak_notes(graph: KnowledgeGraph) -> list[Note]:
    """Warnings of repeated or reversed triples that make validation or test too easy."""
    leaks, valid, test = graph.leaks, len(graph.valid), len(graph.test)
    by_chance = len(graph.train) / graph.num_entities**2  # dense graphs link many pairs in both directions by chance
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


def read_found(
    name: str, found: Found, options: ReadOptions, folder: Path | None = None
) -> tuple[KnowledgeGraph, list[Note]]:
    """Reads the files that were found into a graph of this name; also returns what to log.

    Files are read in pieces, and the triples are in a temporary file if they are many. So memory grows with the names
    alone.

    Args:
        folder: for the temporary file; None: where the system has such files.

    Raises:
        InputError: as for `read_folder`.
    """
    first = found.formats[0]
    if options.header is True and not first.has_header:
        raise InputError(f"graph.header is true, but {first.title} has no line of column names")
    encoder = Encoder(list(found.splits), folder)
    endings = {split: _take(encoder, split, first.read(paths, options)) for split, paths in found.splits.items()}
    notes = [note for ending in endings.values() for note in ending.notes] + _header_notes(found, endings, options)
    entities, relations = encoder.finish()
    format = number_names(found, entities, relations, options)
    encoder.write(entities, relations)
    triples = {split: rows.tensor() for split, rows in encoder.triples.items()}
    if options.header == "auto" and format.has_header and not found.dictionaries:
        _refuse_headers(found, entities.names, relations.names, triples, options)
    if format is not TEXT:
        notes.insert(0, Note(f"read as {format.title}: {', '.join(file.name for file in found.files)}"))
    notes += [*_same_name_notes("entities", entities.names), *_same_name_notes("relations", relations.names)]
    empty = torch.empty(0, 3, dtype=torch.int64)
    graph = KnowledgeGraph(
        name,
        packed(entities.names),
        packed(relations.names),
        train=triples["train"],
        valid=triples.get("valid", empty).long(),
        test=triples.get("test", empty).long(),
    )
    if format in (TEXT, PARQUET) and (doubt := doubt_of_columns(graph)):
        notes.append(Note(doubt, logging.WARNING))
    return graph, notes


def _take(encoder: Encoder, split: str, pieces: Pieces) -> Ending:
    """Passes the triples of a split on; returns what is known at their end."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as ended:
            return ended.value
        encoder.add(split, piece)


def _header_notes(found: Found, endings: Mapping[str, Ending], options: ReadOptions) -> list[Note]:
    """A note about the skipped header, which must be the same in all files; no note if none was skipped."""
    skipped = {split: ending.header for split, ending in endings.items() if ending.header is not None}
    if len(set(skipped.values())) > 1:
        lines = "; ".join(f"{found.splits[split][0].name}: {', '.join(cells)}" for split, cells in skipped.items())
        raise InputError(f"graph.header is true, but the first lines of the files of {found.folder} differ ({lines})")
    if not skipped:
        return []
    cells = next(iter(skipped.values()))
    text = f"skipped the first line of each file, a header ({', '.join(cells)})"
    if found.formats[0] is not TEXT or options.columns is not None:
        return [Note(text)]
    order = order_of(cells)
    if order is not None:
        return [Note(f"{text}: the columns are {in_words(order)}")]
    # Unknown words may stand for any order.
    text = f"{text}; the columns were read as head, relation, tail: if that is wrong, say how, as in graph.columns=htr"
    return [Note(text, logging.WARNING)]


def _refuse_headers(
    found: Found,
    entities: pa.Array,
    relations: pa.Array,
    triples: Mapping[str, Int[Tensor, "_ 3"]],
    options: ReadOptions,
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
        advice = f"graph.header=true skips the first line of each file{_columns_advice(firsts[headers[0]], options)}"
    else:
        advice = "take the line out of this file, the others do not all have one"
    raise InputError(
        f"{path}, line 1: a header ({', '.join(firsts[headers[0]])}), expected a triple: {advice}; "
        "graph.header=false reads it as a triple"
    )


def _columns_advice(words: Sequence[str], options: ReadOptions) -> str:
    """What graph.header=true does with a header in the place of head, relation and tail, if their order is in doubt."""
    order = order_of(words)
    if options.columns is not None or order == "hrt":
        return ""
    if order is not None:
        return f" and takes the columns as {in_words(order)}"
    return "; if the columns are not head, relation, tail, add their order, as in graph.columns=htr"


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
