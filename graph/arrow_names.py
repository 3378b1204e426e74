"""Names as pyarrow has them, and packed as a `KnowledgeGraph` has them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from graph.knowledge_graph import PackedNames


def packed(names: pa.Array) -> PackedNames:
    """The names of an array of large strings."""
    _, offsets, text = names.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    # A copy, because Arrow's buffers are read-only and torch has no read-only tensors.
    characters = np.frombuffer(text or b"", dtype=np.uint8)[starts[0] : starts[-1]].copy()
    return PackedNames(torch.from_numpy(characters), torch.from_numpy(starts - starts[0]))


def as_array(names: Sequence[str]) -> pa.Array:
    """The names as an array of large strings; packed ones are not copied."""
    own = PackedNames.pack(names)
    return pa.LargeStringArray.from_buffers(len(own), pa.py_buffer(own.offsets.numpy()), pa.py_buffer(own.text.numpy()))
