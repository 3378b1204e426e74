"""Caches an encoded graph in one safetensors file, so that text is parsed once. Loading it executes no code."""

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
    """Writes a graph to `file` atomically. If that fails, it logs a warning and the run goes on without a cache."""
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
