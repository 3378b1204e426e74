"""An encoded graph kept in one safetensors file, so that text is parsed once. Nothing in it executes on load."""

import contextlib
import hashlib
import json
import logging
import os
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graph.errors import InputError
from graph.format.source import Note, ReadOptions
from graph.knowledge_graph import KnowledgeGraph, PackedNames

FORMAT_VERSION = 3
_KEY = "advkge_graph"
_log = logging.getLogger("advkge")


def cache_file(cache: Path, folder: Path, options: ReadOptions) -> Path:
    """Where the graph of a folder, read with these options, is kept."""
    key = hashlib.sha256(f"{folder.resolve()}\0{options}".encode(errors="surrogateescape")).hexdigest()[:16]
    return cache / f"graph-{key}.safetensors"


def source_stamp(sources: Iterable[Path], options: ReadOptions) -> str:
    """What a cached graph must have been made from: names, sizes and times of the sources, and how they were read.

    To be taken before the sources are read: a source that changes during the reading then makes the cache stale.
    """
    stats = []
    for source in sources:
        try:
            stats.append((source.name, source.stat()))
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}") from error
    return json.dumps([FORMAT_VERSION, str(options), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]])


def load_cached(file: Path, name: str, stamp: str) -> tuple[KnowledgeGraph, list[Note]] | None:
    """The graph kept in `file` (its tensors memory-mapped), and what was said when its sources were read.

    None if there is none, or a stale or damaged one.
    """
    try:
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as stored:
            kept = json.loads((stored.metadata() or {})[_KEY])
            if kept["stamp"] != stamp:
                _log.info("graph cache %s was made from other sources: reading them again", file)
                return None
            notes = [Note(text, level) for text, level in kept["notes"]]
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (safe_open is no mapping)
        if kept["checksum"] != _checksum(tensors):
            raise ValueError("its checksum does not fit its content")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.warning("graph cache %s is damaged (%s): reading the sources again", file, error)
        return None
    graph = KnowledgeGraph(
        name=name,
        entity_names=PackedNames(tensors["entity_text"], tensors["entity_offsets"]),
        relation_names=PackedNames(tensors["relation_text"], tensors["relation_offsets"]),
        train=tensors["train"],
        valid=tensors["valid"],
        test=tensors["test"],
    )
    return graph, notes


def save_cached(file: Path, graph: KnowledgeGraph, notes: Sequence[Note], stamp: str) -> None:
    """Keeps a graph in `file`, atomically. A cache that cannot be written costs time, not the run: a warning."""
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
    kept = {"stamp": stamp, "checksum": _checksum(tensors), "notes": [(note.text, note.level) for note in notes]}
    metadata = {_KEY: json.dumps(kept)}
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")  # ranks of one run may write at the same time
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # kernels are loaded from a folder below it
        save_file(tensors, partial, metadata)
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        _log.warning("graph cache %s cannot be written (%s): the next run reads the sources again", file, error)
        with contextlib.suppress(OSError):
            partial.unlink()


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    checksum = 0
    for key, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.contiguous().numpy().data, checksum)
    return checksum
