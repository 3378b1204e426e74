"""Names that look the same and are not: equal once Unicode has put letters and accents together (NFC)."""

from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute


def equal_after_nfc(names: pa.Array) -> tuple[int, tuple[str, str]] | None:
    """How many names are equal to another after NFC, and two that are; None if there are no such.

    Args:
        names: text, each name once.
    """
    beyond_ascii = names.filter(pc.invert(pc.string_is_ascii(names)))
    normal = pc.utf8_normalize(beyond_ascii, "NFC")
    is_changed = pc.not_equal(normal, beyond_ascii)
    if not pc.any(is_changed).as_py():
        return None
    changed, became = beyond_ascii.filter(is_changed), normal.filter(is_changed)
    kept = names.filter(pc.is_in(names, pc.unique(became)))  # a name is its own NFC, or it is among the changed
    kept = kept.filter(pc.invert(pc.is_in(kept, changed)))
    originals, normals = pa.concat_arrays([changed, kept]), pa.concat_arrays([became, kept])
    counts = pc.value_counts(normals)
    shared = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(shared):
        return None
    pair = originals.filter(pc.equal(normals, shared.field("values")[0]))
    return pc.sum(shared.field("counts")).as_py(), (pair[0].as_py(), pair[1].as_py())
