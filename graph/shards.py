"""Shards: the entity table cut into equal ranges of rows, of which a few are in memory at a time.

A shard is a range of placed rows, whatever the number of ranks. An epoch passes through *states*: sets of shards that
are in memory together. The states cover every pair of shards, and each triple is trained in a state that has the shards
of its head and of its tail.

The row of states is the BETA order (Mohoney et al., Marius: Learning massive graph embeddings on a single machine, OSDI
2021): one shard changes at a time, and every pair is met with nearly the fewest changes. The buckets of
PyTorch-BigGraph (Lerer et al., MLSys 2019) are the same with two shards in memory, and read more with room for more.
Which shard has which place in that row is drawn anew in each epoch (as MariusGNN groups its partitions anew: Waleffe et
al., EuroSys 2023). Else the negatives of a triple would come from the same few shards in all epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import stream
from graph.errors import InputError

REPLICATED = "replicated"
STORAGES = ("memory", REPLICATED, "disk")
_LEAST_RESIDENT = 2
_MOST_SHARDS = 1024
"""Pairs of shards are counted in a table."""


@dataclass(frozen=True)
class DiskPlan:
    """How a table is kept on disk: cut into `shards`, of which `resident` are in memory, in files in `folder`."""

    shards: int
    resident: int
    folder: str | None

    @classmethod
    def of(cls, storage: str, shards: int, resident: int, folder: str | None, num_entities: int) -> "DiskPlan | None":
        """The plan that the options of placement describe; None: the table is in memory, partitioned or replicated.

        Raises:
            InputError: an option is out of range.
        """
        if storage not in STORAGES:
            raise InputError(f"placement.storage must be one of {', '.join(STORAGES)}, got {storage!r}")
        if storage != "disk":
            return None
        most = min(num_entities, _MOST_SHARDS)
        if not 1 <= shards <= most:
            raise InputError(f"placement.shards must be from 1 to {most}, got {shards}")
        if not min(_LEAST_RESIDENT, shards) <= resident <= shards:
            raise InputError(
                f"placement.resident must be from {min(_LEAST_RESIDENT, shards)} to placement.shards ({shards}), "
                f"got {resident}: a triple needs the shards of its head and of its tail"
            )
        return cls(shards, resident, folder)

    @property
    def has_states(self) -> bool:
        """Whether the shards that are in memory change."""
        return self.resident < self.shards


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges of numbers, one after the other: `at` gives the number at each place."""

    start: Int64[Tensor, " K"]
    before: Int64[Tensor, " K"]
    """Places before each range."""
    size: int

    @classmethod
    def of(cls, start: Int64[Tensor, " K"], stop: Int64[Tensor, " K"]) -> "Ranges":
        """The ranges start .. stop - 1."""
        end = (stop - start).cumsum(0)
        return cls(start, end - (stop - start), int(end[-1]) if len(end) else 0)

    def at(self, place: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """The number at each place, from 0 to size - 1."""
        number = torch.searchsorted(self.before, place, right=True) - 1
        return self.start[number] + place - self.before[number]


@dataclass(frozen=True, eq=False)
class Resident:
    """The shards that are in memory in a state, and their entities."""

    shards: tuple[int, ...]
    following: tuple[int, ...]
    """The shards of the state that comes next."""
    rows: Ranges
    entity_of_row: Int64[Tensor, " E"]

    @property
    def count(self) -> int:
        """The number of entities in memory."""
        return self.rows.size

    def entity(self, number: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """The entities with these numbers, from 0 to count - 1."""
        return self.entity_of_row[self.rows.at(number)]


@dataclass(frozen=True, eq=False)
class State:
    """A part of an epoch: what is in memory, and which triples of train, sorted by pair of shards, are trained."""

    shards: tuple[int, ...]
    positives: Ranges


def row_bounds(num_rows: int, shards: int) -> Int64[Tensor, " S1"]:
    """Where the shards begin, and the end: shard k has the rows from bound k to bound k + 1 - 1."""
    return torch.arange(shards + 1) * num_rows // shards


class ShardStates:
    """The states of each epoch.

    Args:
        bucket_sizes: the number of train triples by shard of head and shard of tail; train is sorted by both.
        resident: shards in memory.
        entity_of_row: the entity in each row.
    """

    def __init__(self, bucket_sizes: Int64[Tensor, "S S"], resident: int, entity_of_row: Int64[Tensor, " E"]) -> None:
        self._sizes = bucket_sizes
        self._entity_of_row = entity_of_row
        self._order = beta_order(len(bucket_sizes), resident)
        self._shards_at: dict[int, list[Int64[Tensor, " S"]]] = {}
        self.most = len(self._order)
        """No epoch has more states."""
        self.of_epoch = lru_cache(maxsize=2)(self._of_epoch)
        """The states of an epoch (seed, epoch) that have triples."""

    def resident(self, state: State, following: State) -> Resident:
        """What is in memory in a state.

        Args:
            following: the state that comes next.
        """
        bounds, shards = row_bounds(len(self._entity_of_row), len(self._sizes)), torch.tensor(state.shards)
        rows = Ranges.of(bounds[shards], bounds[shards + 1])
        return Resident(state.shards, following.shards, rows, self._entity_of_row)

    def _of_epoch(self, seed: int, epoch: int) -> list[State]:
        shard_at = self._places(seed, epoch)
        return states_of(self._sizes, [shard_at[torch.tensor(places)] for places in self._order])

    def _places(self, seed: int, epoch: int) -> Int64[Tensor, " S"]:
        """The shard that has each place in the row of states. An epoch begins with the shards that are in memory."""
        before = self._shards_at.setdefault(seed, [])
        for number in range(len(before), epoch + 1):
            generator = torch.Generator().manual_seed(stream("places of shards", seed, number))
            kept = torch.tensor([], dtype=torch.int64) if not number else before[-1][torch.tensor(self._order[-1])]
            others = torch.ones(len(self._sizes), dtype=torch.bool)
            others[kept] = False
            parts = kept, others.nonzero()[:, 0]
            before.append(torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts]))
        return before[epoch]


def beta_order(shards: int, resident: int) -> list[tuple[int, ...]]:
    """Sets of `resident` of the shards, each with one other shard than the set before; every pair is in one of them."""
    buffer, waiting = list(range(resident)), list(range(resident, shards))
    states = [tuple(sorted(buffer))]
    while waiting:
        for place in range(len(waiting)):  # the last one changes through all others
            buffer[-1], waiting[place] = waiting[place], buffer[-1]
            states.append(tuple(sorted(buffer)))
        # The others have now met all shards, and make room for new ones.
        done = min(resident - 1, len(waiting))
        for place in range(done):
            buffer[place] = waiting[place]
            states.append(tuple(sorted(buffer)))
        del waiting[:done]
    return states


def states_of(bucket_sizes: Int64[Tensor, "S S"], sets: Sequence[Int64[Tensor, " K"]]) -> list[State]:
    """The states of an epoch that have triples.

    A pair of shards that is in several states has an equal part of its triples in each. So shards that stay in memory
    for long are trained all that time, and not in their first state alone.

    Args:
        bucket_sizes: the number of train triples by shard of head and shard of tail; train is sorted by both.
        sets: shards that are in memory together, in turn.
    """
    first = (bucket_sizes.flatten().cumsum(0) - bucket_sizes.flatten()).view_as(bucket_sizes)
    often, before = torch.zeros_like(bucket_sizes), torch.zeros_like(bucket_sizes)
    for shards in sets:
        often[shards[:, None], shards] += 1
    states = []
    for shards in sets:
        size, part, parts, start = (each[shards[:, None], shards] for each in (bucket_sizes, before, often, first))
        before[shards[:, None], shards] += 1
        begin, end = (start + size * cut // parts for cut in (part, part + 1))
        some = begin < end
        if some.any():
            states.append(State(tuple(sorted(shards.tolist())), Ranges.of(begin[some], end[some])))
    return states
