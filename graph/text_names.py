"""Numbers names that are text: by 128-bit hashes of them, as a table of the names themselves would take much more room.

A name takes 20 bytes of memory, and its text, which is in a file if there is much of it. The hashes have random keys,
so no text can be made to hit another's. By chance two of 10^9 names do with a probability of 10^-21.
"""

import secrets
from pathlib import Path

import numpy as np
import pyarrow as pa

from graph.growing import Growing

_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
_SHIFT = np.uint64(29)
_WORD = 8


class TextNames:
    """Distinct names, numbered as they come.

    Args:
        folder: for the file of their text, see `Growing`.
    """

    def __init__(self, folder: Path | None) -> None:
        self._text = Growing(folder, np.uint8)
        self._lengths = Growing(folder, np.int32)
        self._runs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        """Hashes in two halves, sorted by the first, and numbers. Each run is less than half as long as the last."""
        self._keys = np.frombuffer(secrets.token_bytes(16), dtype=np.uint64)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._lengths)

    def numbers(self, names: pa.LargeStringArray) -> np.ndarray:
        """The number of each name; new ones get numbers."""
        if not len(names):
            return np.empty(0, dtype=np.int32)
        first, second = self._hash(names)
        order = first.argsort()
        first, second = first[order], second[order]
        number = np.full(len(order), -1, dtype=np.int32)
        for run in self._runs:
            missing = np.flatnonzero(number < 0)
            number[missing] = _find(run, first[missing], second[missing])
        missing = np.flatnonzero(number < 0)
        if len(missing):
            number[missing] = self._add(names, first[missing], second[missing], order[missing])
        found = np.empty_like(number)
        found[order] = number
        return found

    def array(self) -> pa.LargeStringArray:
        """All names, in the order of their numbers; their text is mapped if it is much."""
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        for first, lengths in self._lengths.blocks():
            np.cumsum(lengths, out=offsets[first + 1 : first + 1 + len(lengths)])
            offsets[first + 1 : first + 1 + len(lengths)] += offsets[first]
        text = self._text.tensor().numpy()
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(text))

    def _add(self, names: pa.LargeStringArray, first: np.ndarray, second: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Numbers names that are not there yet; hashes are sorted by the first half, and a name may come twice."""
        by_both = np.lexsort((second, first))
        one, other = first[by_both], second[by_both]
        is_new = np.ones(len(one), dtype=np.bool_)
        is_new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
        chosen = names.take(pa.array(place[by_both[is_new]]))
        known = len(self)
        starts, text = _buffers(chosen)
        self._text.append(text[starts[0] : starts[-1]])
        self._lengths.append(np.diff(starts))
        numbers = np.arange(known, len(self), dtype=np.int32)
        self._runs.append((one[is_new], other[is_new], numbers))
        while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) >= len(self._runs[-2][0]):
            self._runs.append(_merge(self._runs.pop(), self._runs.pop()))
        given = np.empty(len(one), dtype=np.int32)
        given[by_both] = numbers[is_new.cumsum() - 1]
        return given

    def _hash(self, names: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        starts, text = _buffers(names)
        begin, length = starts[:-1], np.diff(starts)
        # Eight bytes from any place on, so that a name is a few words; after the end of all text come zeros.
        padded = np.concatenate([text[starts[0] : starts[-1]], np.zeros(_WORD, dtype=np.uint8)])
        word_at = np.ndarray((len(padded) - _WORD + 1,), dtype="<u8", buffer=padded, strides=(1,))
        begin = begin - starts[0]
        halves = [
            _mixed(length.astype(np.uint64) ^ key, factor) for key, factor in zip(self._keys, _MULTIPLIERS, strict=True)
        ]
        rows = np.arange(len(length))
        for place in range(0, int(length.max()), _WORD):
            rows = rows[length[rows] > place]
            word = word_at[begin[rows] + place]
            left = np.minimum(length[rows] - place, _WORD)
            word &= np.uint64(0xFFFFFFFFFFFFFFFF) >> ((_WORD - left) * 8).astype(np.uint64)
            for half, key, factor in zip(halves, self._keys, _MULTIPLIERS, strict=True):
                half[rows] = _mixed((half[rows] ^ word) + key, factor)
        return halves[0], halves[1]


def _mixed(value: np.ndarray, factor: np.uint64) -> np.ndarray:
    """Spreads each bit over all others, by products and shifts that can be undone, so that nothing is lost."""
    value = value * factor
    value ^= value >> _SHIFT
    value *= factor
    value ^= value >> _SHIFT
    return value


def _buffers(names: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The start of each name and the end of the last, and the text."""
    _, offsets, text = names.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    return starts, np.frombuffer(text or b"", dtype=np.uint8)


def _find(run: tuple[np.ndarray, np.ndarray, np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number of each hash in a run; -1 if it is not there. `first` ascends."""
    one, other, numbers = run
    place = np.searchsorted(one, first)
    found = np.full(len(first), -1, dtype=np.int32)
    rows = np.arange(len(first))
    while len(rows):
        rows = rows[place[rows] < len(one)]
        rows = rows[one[place[rows]] == first[rows]]
        same = other[place[rows]] == second[rows]
        found[rows[same]] = numbers[place[rows[same]]]
        rows = rows[~same]  # another name with the same first half
        place[rows] += 1
    return found


def _merge(*runs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.concatenate([run[0] for run in runs]).argsort(kind="stable")
    one, other, numbers = (np.concatenate([run[part] for run in runs])[order] for part in range(3))
    return one, other, numbers
