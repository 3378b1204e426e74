"""Turns the triples of splits, which come in pieces, into ids. Memory grows with the names, not with the triples."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from graph.growing import Growing
from graph.name_table import NameTable

pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them
_PLACES = {"h": 0, "r": 1, "t": 2}


class Encoding:
    """The names of entities, or of relations, and their ids."""

    def __init__(self, table: NameTable, columns: Sequence[tuple[str, str, Growing]]) -> None:
        self._columns = columns
        """The split, the letter h, r or t, and the triples; in the order in which names appear."""
        self._is_integers = table.is_integers
        self.names, self._place = table.finish()
        """The distinct names; after `in_order` or `renumber`, in the order of their ids."""
        self._new_id: np.ndarray | None = None

    def renumber(self, names: pa.Array, new_id: np.ndarray) -> None:
        """Sets ids: `new_id` is in the order of the names so far, `names` lists all names in order of the new ids."""
        self.names, self._new_id = names, new_id

    def in_order(self) -> None:
        """Numbers names in order of appearance, except that non-negative integers keep their numeric order."""
        if self._is_integers:
            return
        new_id = self._by_appearance()
        order = np.empty_like(new_id)
        order[new_id] = np.arange(len(new_id), dtype=np.int32)
        names = self.names.take(pa.array(order))
        numeric = _numeric_order(names)
        if numeric is not None:
            rank = np.empty_like(new_id)
            rank[numeric] = np.arange(len(rank), dtype=np.int32)
            names, new_id = names.take(pa.array(numeric)), rank[new_id]
        self.renumber(names, new_id)

    @property
    def ids(self) -> np.ndarray | None:
        """The id of each number in the triples; None if they are the ids."""
        if self._new_id is None or self._place is None:
            return self._place if self._new_id is None else self._new_id
        return self._new_id[self._place]

    def first_place(self, is_wanted: np.ndarray) -> tuple[str, str, int, int]:
        """The first appearance of any of some names: split, letter, row counted from 0, and place in `names`.

        Args:
            is_wanted: for each of the names, whether it is one of them.
        """
        for split, letter, _, first, number in self._numbers():
            place = number if self._place is None else self._place[number]
            rows = np.flatnonzero(is_wanted[place])
            if len(rows):
                return split, letter, first + int(rows[0]), int(place[rows[0]])
        raise IndexError("no such name appears")

    def _numbers(self) -> Iterator[tuple[str, str, Growing, int, np.ndarray]]:
        for split, letter, triples in self._columns:
            for first, block in triples.blocks():
                yield split, letter, triples, first, block[:, _PLACES[letter]]

    def _by_appearance(self) -> np.ndarray:
        """The id of each name, as they appear."""
        new_id = np.full(len(self.names), -1, dtype=np.int32)
        known = 0
        for *_, number in self._numbers():
            row = np.flatnonzero(new_id[number] < 0)
            if not len(row):
                continue
            name = number[row]
            # The last of those written to one place stays: backwards, it is the row where the name appears first.
            new_id[name[::-1]] = -2 - np.arange(len(row), dtype=np.int32)[::-1]
            is_first = new_id[name] == -2 - np.arange(len(row), dtype=np.int32)
            name = name[is_first]
            new_id[name] = np.arange(known, known + len(name), dtype=np.int32)
            known += len(name)
        return new_id


class Encoder:
    """Takes the triples of splits piece by piece, and keeps them as numbers.

    Args:
        folder: for files of triples and names that are many, see `Growing`.
    """

    def __init__(self, splits: Sequence[str], folder: Path | None) -> None:
        self.triples: Mapping[str, Growing] = {split: Growing(folder, np.int32, 3) for split in splits}
        self._tables = {"entities": NameTable(folder), "relations": NameTable(folder)}

    def add(self, split: str, piece: pa.Table) -> None:
        """Takes some triples: columns h, r and t, see `graph.format.source.Pieces`."""
        for batch in piece.to_batches():
            (head, tail), entity_became = self._tables["entities"].numbers([batch.column(side) for side in "ht"])
            [relation], relation_became = self._tables["relations"].numbers([batch.column("r")])
            self._rewrite(entity_became, relation_became)
            self.triples[split].append(np.stack([head, relation, tail], axis=1))

    def finish(self) -> tuple[Encoding, Encoding]:
        """The names of entities and of relations, when all triples are there."""
        in_turn = [(split, side, triples) for split, triples in self.triples.items() for side in "ht"]
        of_relations = [(split, "r", triples) for split, triples in self.triples.items()]
        return Encoding(self._tables["entities"], in_turn), Encoding(self._tables["relations"], of_relations)

    def write(self, entities: Encoding, relations: Encoding) -> None:
        """Puts ids in the place of numbers."""
        self._rewrite(entities.ids, relations.ids)

    def _rewrite(self, entity: np.ndarray | None, relation: np.ndarray | None) -> None:
        """Puts other numbers in the place of those that were given; None: they stay."""
        if entity is None and relation is None:
            return
        for triples in self.triples.values():
            for first, block in triples.blocks():
                for letter, place in _PLACES.items():
                    became = relation if letter == "r" else entity
                    if became is not None:
                        block[:, place] = became[block[:, place]]
                triples.write(first, block)


def _numeric_order(names: pa.Array) -> np.ndarray | None:
    """Positions of the names sorted by value if every name is a non-negative integer of any length, else None."""
    if not pc.all(pc.match_substring_regex(names, "^[0-9]+$")).as_py():
        return None
    digits = pc.utf8_ltrim(names, "0")
    table = pa.table({"length": pc.binary_length(digits), "digits": digits})
    # The sort is stable: "7" and "07" stay two names, in order of appearance.
    return pc.sort_indices(table, sort_keys=[("length", "ascending"), ("digits", "ascending")]).to_numpy()
