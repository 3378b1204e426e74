"""Finds the ids of names without a dictionary of all names, which would take gigabytes for millions of entities."""

import difflib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from graph.knowledge_graph import PackedNames

_MOST_COMPARED = 20_000
"""The most names that a wrong name is compared with: two seconds at most."""
pc: Any = pyarrow.compute


class NameLookup:
    """The ids of names, for entities or for relations.

    Example: `NameLookup(graph.entity_names).ids(["a", "z"])` is [0, None] if "a" is entity 0 and there is no "z".
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = PackedNames.pack(names)

    @cached_property
    def _array(self) -> pa.LargeStringArray:
        """The same names for pyarrow, without a copy."""
        offsets, text = (pa.py_buffer(each.numpy()) for each in (self._names.offsets, self._names.text))
        return pa.LargeStringArray.from_buffers(len(self._names), offsets, text)

    def ids(self, names: Sequence[str]) -> list[int | None]:
        """The id of each name; None for a name that is not there."""
        distinct = list(dict.fromkeys(names))
        place = pc.index_in(self._array, value_set=pa.array(distinct, pa.large_string()))
        known = pc.indices_nonzero(pc.is_valid(place))
        found = dict(zip(place.take(known).to_pylist(), known.to_pylist(), strict=True))
        id_of = {name: found.get(number) for number, name in enumerate(distinct)}
        return [id_of[name] for name in names]

    def near(self, name: str) -> list[str]:
        """At most three names that look like `name`: those with the same words, then the most similar, by difflib.

        Among very many names, only those are compared that begin with the same letters and are about as long.
        """
        starts, text = self._names.offsets.numpy(), self._names.text.numpy()
        wanted = name.encode()
        differs = np.abs(np.diff(starts) - len(wanted))
        words = _words(name)
        # As "Dylan, Bob" is of "Bob Dylan".
        as_long = np.flatnonzero(differs <= 2)[:_MOST_COMPARED] if len(words) > 1 else ()
        same_words = [other for each in as_long if _words(other := self._names[int(each)]) == words]
        near = np.flatnonzero(differs <= max(2, len(wanted) // 2))
        for number, byte in enumerate(wanted):
            if len(near) <= _MOST_COMPARED:
                break
            longer = near[starts[near] + number < starts[near + 1]]
            same = longer[text[starts[longer] + number] == byte]
            if not len(same):
                break
            near = same
        near = near[differs[near].argsort(kind="stable")][:_MOST_COMPARED]
        similar = difflib.get_close_matches(name, [self._names[int(each)] for each in near])
        return list(dict.fromkeys([*same_words, *similar]))[:3]


def _words(name: str) -> list[str]:
    return sorted(re.findall(r"[^\W_]+", name.casefold()))
