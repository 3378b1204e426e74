"""Caches an encoded graph in one safetensors file, so that text is parsed once. Loading it executes no code."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from graph.checked_file import load_checked, save_checked
from graph.errors import InputError
from graph.format.source import Note, ReadOptions
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from graph.known_cache import index_file

FORMAT_VERSION = 5
_WHAT = "graph cache"


def cache_file(cache: Path, folder: Path, options: ReadOptions) -> Path:
    """The cache file of the graph in `folder`, read with these options."""
    key = hashlib.sha256(f"{folder.resolve()}\0{options}".encode(errors="surrogateescape")).hexdigest()[:16]
    return cache / f"graph-{key}.safetensors"


def source_stamp(sources: Iterable[Path], options: ReadOptions) -> str:
    """Text that identifies the sources: their names, sizes and times, and the options for reading them.

    Call it before the sources are read, so that a file that changes meanwhile makes the cache stale.

    Raises:
        InputError: a source cannot be read.
    """
    stats = []
    for source in sources:
        try:
            stats.append((source.name, source.stat()))
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}") from error
    return json.dumps([FORMAT_VERSION, str(options), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]])


def load_cached(file: Path, name: str, stamp: str) -> tuple[KnowledgeGraph, list[Note]] | None:
    """The cached graph (tensors memory-mapped) and the notes that were logged when its sources were read.

    None if the file is missing, was made from other sources, or is damaged.
    """
    kept = load_checked(file, stamp, _WHAT)
    if kept is None:
        return None
    tensors, notes = kept
    graph = KnowledgeGraph(
        name=name,
        entity_names=PackedNames(tensors["entity_text"], tensors["entity_offsets"]),
        relation_names=PackedNames(tensors["relation_text"], tensors["relation_offsets"]),
        train=tensors["train"],
        valid=tensors["valid"],
        test=tensors["test"],
        known_file=index_file(file),
    )
    return graph, [Note(text, level) for text, level in notes]


def save_cached(file: Path, graph: KnowledgeGraph, notes: Sequence[Note], stamp: str) -> bool:
    """Writes a graph to `file` atomically; whether it could: if not, it logs a warning and the run goes on."""
    entities, relations = PackedNames.pack(graph.entity_names), PackedNames.pack(graph.relation_names)
    tensors = {
        "entity_text": entities.text,
        "entity_offsets": entities.offsets,
        "relation_text": relations.text,
        "relation_offsets": relations.offsets,
        "train": graph.train,
        "valid": graph.valid,
        "test": graph.test,
    }
    return save_checked(file, tensors, [(note.text, note.level) for note in notes], stamp, _WHAT)
