"""Writes the triples of a graph as text: head, tab, relation, tab, tail on each line, UTF-8."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Int
from torch import Tensor

from graph.arrow_names import as_array
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph

_BLOCK = 1 << 20
_LEVEL = 4
"""Of gzip: twice as fast as the usual 6 and a tenth larger."""
pc: Any = pyarrow.compute


def _large(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def refuse_what_text_can_not_hold(graph: KnowledgeGraph) -> None:
    """Raises InputError for a name with a tab or an end of a line, as names of N-Triples or Parquet may have."""
    for what, names in (("entity", graph.entity_names), ("relation", graph.relation_names)):
        array = as_array(names)
        found = array.filter(pc.match_substring_regex(array, "[\t\r\n]"))
        if len(found):
            raise InputError(
                f"the {what} {found[0].as_py()[:80]!r} has a tab or an end of a line in its name, which a text file "
                "can't hold; replace it in the files that are read"
            )


def write_triples(path: Path, graph: KnowledgeGraph, triples: Int[Tensor, "T 3"]) -> None:
    """Writes some triples of a graph, packed if the file's name ends in .gz. Equal triples give equal bytes."""
    heads, relations = as_array(graph.entity_names), as_array(graph.relation_names)
    tails = pc.binary_join_element_wise(heads, _large("\n"), _large(""))
    # Without a name or a time in its header.
    packed = path.suffix == ".gz"
    with path.open("wb") as plain, gzip.GzipFile("", "wb", _LEVEL, plain, 0) if packed else plain as file:
        for block in triples.split(_BLOCK):
            head, relation, tail = (pa.array(ids.contiguous().numpy()) for ids in block.unbind(1))
            lines = pc.binary_join_element_wise(
                heads.take(head), relations.take(relation), tails.take(tail), _large("\t")
            )
            _, offsets, text = lines.buffers()
            file.write(text[: np.frombuffer(offsets, dtype=np.int64)[len(lines)]])
