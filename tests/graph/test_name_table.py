"""Names that come in pieces: each has one number, whether it is an integer or text, and whatever came before."""

import random

import numpy as np
import pyarrow as pa
import pytest

from graph import name_table, text_names
from graph.name_table import NameTable
from graph.text_names import TextNames


def encoded(names: list[str]) -> pa.DictionaryArray:
    return pa.array(names, pa.large_string()).dictionary_encode()


def read_back(pieces: list[pa.Array]) -> list[list[str]]:
    """The names of each piece, by the numbers that it got and by what became of them."""
    table, numbers = NameTable(None), []
    for piece in pieces:
        [given], became = table.numbers([piece])
        if became is not None:
            numbers = [became[each] for each in numbers]
        numbers.append(given)
    names, place = table.finish()
    listed = names.to_pylist()
    assert len(set(listed)) == len(listed)
    return [[listed[each] for each in (given if place is None else place[given]).tolist()] for given in numbers]


@pytest.mark.parametrize(
    "others",
    [
        [],
        [encoded(["b", "7", "a"]), encoded(["7", "c", "40"])],
        [encoded(["007", "7"])],
        [pa.array([-1, 7])],
        [pa.array([1 << 40, 7, 40])],
        [encoded([str(1 << 28), "7"])],
        [encoded([""]), pa.array([40, 3], pa.uint8())],
    ],
)
def test_names_keep_their_numbers_when_other_kinds_follow(others):
    pieces = [pa.array([40, 7, 40], pa.int32()), encoded(["7", "3", "0"]), *others]
    assert read_back(pieces) == [[str(name) for name in piece.to_pylist()] for piece in pieces]


def test_integers_ascend_and_are_their_own_numbers():
    table = NameTable(None)
    [numbers], _ = table.numbers([encoded(["5", "2", "9"])])
    names, place = table.finish()
    assert numbers.tolist() == [5, 2, 9] and names.to_pylist() == ["2", "5", "9"]
    assert place is not None and place[numbers].tolist() == [1, 0, 2]


def test_large_integers_are_text_so_that_no_list_is_as_long_as_they_are_large():
    table = NameTable(None)
    [numbers], _ = table.numbers([pa.array([name_table._LARGEST, name_table._LARGEST - 1])])
    assert not table.is_integers and max(numbers) < 2


@pytest.mark.parametrize("alike", [False, True])
def test_text_has_one_number_each_also_if_half_of_a_hash_is_that_of_others(alike, monkeypatch):
    if alike:  # the first halves of all hashes are one of three
        hashes = TextNames._hash

        def few(self, names):
            first, second = hashes(self, names)
            return first % np.uint64(3), second

        monkeypatch.setattr(TextNames, "_hash", few)
    rng = random.Random(3)
    # Lengths about a word of eight bytes; names that differ in their last byte, or in zero bytes at the end.
    pool = ["x" * size + end for size in range(20) for end in ("", "a", "b", "\0", "\0\0")]
    table, number_of = TextNames(None), {}
    for size in (1, 3, 200, 2, 150):
        names = [rng.choice(pool) for _ in range(size)]
        for name, number in zip(names, table.numbers(pa.array(names, pa.large_string())).tolist(), strict=True):
            assert number_of.setdefault(name, number) == number
    assert len(set(number_of.values())) == len(number_of) == len(table)
    listed = table.array().to_pylist()
    assert all(listed[number] == name for name, number in number_of.items())


def test_hashes_are_of_the_names_of_a_slice(monkeypatch):
    monkeypatch.setattr(text_names.secrets, "token_bytes", bytes)
    names = pa.array(["abc", "defghijklm", "", "no"], pa.large_string())
    whole, part = TextNames(None)._hash(names), TextNames(None)._hash(names.slice(1, 2))
    assert all(one[1:3].tolist() == other.tolist() for one, other in zip(whole, part, strict=True))
    assert len(set(whole[0].tolist())) == len(set(whole[1].tolist())) == 4
