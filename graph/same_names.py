"""Finds names that mean the same but differ: by Unicode normalisation (NFC), or by quotes around one of them."""

from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute


def equal_after_nfc(names: pa.Array) -> tuple[int, tuple[str, str]] | None:
    """The number of names that equal another name after NFC, and one such pair; None if there are none.

    Args:
        names: distinct names.
    """
    beyond_ascii = names.filter(pc.invert(pc.string_is_ascii(names)))
    normal = pc.utf8_normalize(beyond_ascii, "NFC")
    is_changed = pc.not_equal(normal, beyond_ascii)
    if not pc.any(is_changed).as_py():
        return None
    changed, became = beyond_ascii.filter(is_changed), normal.filter(is_changed)
    kept = names.filter(pc.is_in(names, pc.unique(became)))  # in NFC already, or changed too
    kept = kept.filter(pc.invert(pc.is_in(kept, changed)))
    originals, normals = pa.concat_arrays([changed, kept]), pa.concat_arrays([became, kept])
    counts = pc.value_counts(normals)
    shared = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(shared):
        return None
    pair = originals.filter(pc.equal(normals, shared.field("values")[0]))
    return pc.sum(shared.field("counts")).as_py(), (pair[0].as_py(), pair[1].as_py())


def equal_but_for_quotes(names: pa.Array) -> tuple[int, tuple[str, str]] | None:
    """How many names in double quotes are names without them too, and two that are; None if there are no such.

    Only .csv files have quotes as signs of their own. One split of another format that was written with quotes, and
    one that was not, have two names for each entity.

    Args:
        names: text, each name once.
    """
    is_quoted = pc.and_(
        pc.starts_with(names, '"'), pc.and_(pc.ends_with(names, '"'), pc.greater(pc.binary_length(names), 2))
    )
    quoted = names.filter(is_quoted)
    if not len(quoted):
        return None
    bare = pc.utf8_slice_codeunits(quoted, 1, -1)
    is_twin = pc.is_in(bare, names)
    count = pc.sum(is_twin).as_py()
    if not count:
        return None
    first = pc.index(is_twin, True).as_py()
    return count, (quoted[first].as_py(), bare[first].as_py())
