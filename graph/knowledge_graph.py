"""A knowledge graph in memory: triples as ids, and the names behind the ids."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from graph.int32_ids import expect_int32_ids
from graph.known import KnownTriples
from graph.known_cache import cached_facts
from graph.leaks import Leaks

_BLOCK = 1 << 16
"""Train triples that are converted to int64 at a time; larger blocks stay in the heap when they are free."""


class PackedNames(Sequence[str]):
    """A list of names in one UTF-8 buffer. 100 million Python strings would take 6 GB or more.

    A name is decoded each time it is read.

    Args:
        text: the UTF-8 bytes of all names, one after the other.
        offsets: the start of each name in `text`, then the end of the last one; ascending from 0.
    """

    def __init__(self, text: UInt8[Tensor, " bytes"], offsets: Int64[Tensor, " names_plus_one"]) -> None:
        self.text = text
        self.offsets = offsets
        self._bytes = text.numpy()
        self._starts = offsets.numpy()

    @classmethod
    def pack(cls, names: Iterable[str]) -> "PackedNames":
        """The names in packed form; packed names are returned as they are."""
        if isinstance(names, PackedNames):
            return names
        encoded = [name.encode() for name in names]
        offsets = torch.zeros(len(encoded) + 1, dtype=torch.int64)
        offsets[1:] = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)
        text = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
        return cls(torch.from_numpy(text), offsets)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]  # negative indices and IndexError as for a list
        return self._bytes[self._starts[position] : self._starts[position + 1]].tobytes().decode()


def _no_triples() -> Int64[Tensor, "0 3"]:
    return torch.empty(0, 3, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Train, valid and test triples as ids, in the columns head, relation, tail, and the names of the ids.

    Train is int32, whatever it is made from: it is the large split, and steps convert what they need. The others are
    int64. `hidden` holds true triples that are in no split. Only a synthetic graph has any. They are used for exact
    false-negative rates, never for training or ranking.

    Raises:
        InputError: there are more entities than int32 can number.

    Example: `graph.entity_names[graph.train[0, 0]]` is the head's name of the first train triple.
    """

    name: str
    entity_names: Sequence[str]
    relation_names: Sequence[str]
    train: Int[Tensor, "train 3"]
    valid: Int64[Tensor, "valid 3"]
    test: Int64[Tensor, "test 3"]
    hidden: Int64[Tensor, "hidden 3"] = field(default_factory=_no_triples)
    known_file: Path | None = None
    """Where the sorted facts of train are kept, so that they can be memory-mapped; None: only in memory."""

    def __post_init__(self) -> None:
        expect_int32_ids("a graph", self.num_entities)
        object.__setattr__(self, "train", self.train.int())

    @property
    def num_entities(self) -> int:
        """Number of entities in all splits together."""
        return len(self.entity_names)

    @property
    def num_relations(self) -> int:
        """Number of relations in all splits together."""
        return len(self.relation_names)

    @cached_property
    def known(self) -> KnownTriples:
        """The facts of train, sorted in both directions when they are first asked for; on the CPU."""
        return cached_facts(self.train, self.num_entities, self.num_relations, self.known_file)

    @cached_property
    def leaks(self) -> Leaks:
        """Counts of valid and test triples that another split repeats or reverses."""
        return Leaks.of(self.train, self.valid, self.test)

    def summary(self) -> str:
        """A few lines to print: sizes, entities and relations that train lacks, and repeated or reversed triples."""
        entity_seen = torch.zeros(self.num_entities, dtype=torch.bool)
        relation_seen = torch.zeros(self.num_relations, dtype=torch.bool)
        for block in self.train.split(_BLOCK):
            head, relation, tail = block.long().unbind(1)
            entity_seen[head] = entity_seen[tail] = relation_seen[relation] = True
        sizes = f"{len(self.train):,} train, {len(self.valid):,} valid, {len(self.test):,} test triples"
        leaks = self.leaks
        lines = [
            f"{self.name}: {self.num_entities:,} entities, {self.num_relations:,} relations; {sizes}",
            f"not in train: {int((~entity_seen).sum()):,} entities, {int((~relation_seen).sum()):,} relations",
            f"repeated in train: {leaks.valid_in_train:,} valid and {leaks.test_in_train:,} test triples; "
            f"in valid: {leaks.test_in_valid:,} test triples",
            f"reversed in train under another relation: {leaks.valid_reversed:,} valid and {leaks.test_reversed:,} "
            f"test triples ({leaks.test_reversed / max(len(self.test), 1):.1%} of test)",
            f"duplicates inside train: {len(self.train) - self.known.num_facts:,} triples",
        ]
        if len(self.hidden):
            lines.append(f"true but in no split: {len(self.hidden):,} triples")
        return "\n".join(lines)

    def fingerprint(self) -> str:
        """16 hex digits that depend on the names, their ids and the triples of all splits, not on the graph's name."""
        digest = hashlib.sha256()
        for names in (self.entity_names, self.relation_names):
            packed = PackedNames.pack(names)
            _add(digest, packed.offsets)
            _add(digest, packed.text)
        for triples in (self.train, self.valid, self.test):
            _add(digest, triples)
        return digest.hexdigest()[:16]


def _add(digest: "hashlib._Hash", tensor: Tensor) -> None:
    # The length goes first, so that moving a triple from one split to another changes the digest.
    digest.update(len(tensor).to_bytes(8, "little"))
    for block in tensor.split(_BLOCK):
        # Train was int64 once: converted, it has the digest that checkpoints of those days name.
        digest.update((block.long() if block.dtype == torch.int32 else block).contiguous().numpy().data)
