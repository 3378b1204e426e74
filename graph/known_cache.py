"""Keeps the sorted facts of train beside the graph cache, so that they are sorted once and ranks share the memory."""

import json
from pathlib import Path

from jaxtyping import Int32
from torch import Tensor

from graph.answer_index import AnswerIndex
from graph.checked_file import checksum, load_checked, save_checked, writable_folder
from graph.known import KnownTriples

_FORMAT_VERSION = 2
_WHAT = "index of known facts"
_SIDES = "tails", "heads"
_PARTS = "query", "offset", "answer"


def index_file(graph_file: Path) -> Path:
    """The file of the sorted facts that belongs to the cache file of a graph."""
    return graph_file.with_suffix(".known.safetensors")


def cached_facts(train: Int32[Tensor, "T 3"], num_entities: int, num_relations: int, file: Path | None) -> KnownTriples:
    """The sorted facts of train: memory-mapped from `file`, which is written if it is missing or of other triples.

    Args:
        file: None: the facts are sorted anew, with temporary files if they are many.
    """
    if file is None:
        return KnownTriples.of(train, num_entities, num_relations)
    stamp = json.dumps([_FORMAT_VERSION, num_entities, num_relations, len(train), checksum({"train": train})])
    kept = load_checked(file, stamp, _WHAT)
    if kept is None:
        known = KnownTriples.of(train, num_entities, num_relations, writable_folder(file.parent))
        tensors = {f"{side}_{part}": getattr(getattr(known, side), part) for side in _SIDES for part in _PARTS}
        if save_checked(file, tensors, None, stamp, _WHAT):
            kept = load_checked(file, stamp, _WHAT)  # so that the copy in memory goes
        if kept is None:
            return known
    tensors, _ = kept
    tails, heads = (
        AnswerIndex(**{part: tensors[f"{side}_{part}"] for part in _PARTS}, num_relations=num_relations)
        for side in _SIDES
    )
    return KnownTriples(tails, heads)
