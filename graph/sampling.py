"""The order of positives: which chunks each step trains on. It depends on the seed and the epoch only."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from heapq import heapify, heapreplace
from itertools import accumulate

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.counter_random import random_uniform, stream
from graph.errors import InputError
from graph.permutation import permuted
from graph.shards import Ranges, Resident, ShardStates

SECTION = 1 << 21
"""The most positives that are shuffled at a time. Graphs with fewer train triples have one section an epoch."""
Weights = Callable[[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, " B"]], Float64[Tensor, " B"]]
"""The weights in the loss of positives with these heads, relations and tails."""


@dataclass(frozen=True)
class _Part:
    """Where a section is in an epoch, before it is shuffled."""

    state: int
    positives: Ranges | None
    """The triples of its state; None: all of train."""
    of_state: int
    """How many these are."""
    first: int
    """Positives of the state in sections before it."""
    size: int
    batches: int
    chunks: int
    """Chunks, counting one side of `Sides.BOTH`."""
    first_chunk: int
    """The number within the epoch of its first chunk."""
    number: int


@dataclass(frozen=True)
class _Section:
    """A part of an epoch: some whole batches, in their order, so that each batch is a slice."""

    row: Int64[Tensor, " P"]
    """The train triple of each positive; -1 is padding."""
    chunk: Int64[Tensor, " K"]
    head_chunks: list[int]
    """The number of chunks of each batch that corrupt the head."""


class Sides(StrEnum):
    """Which entities of a positive are corrupted."""

    ONE = "one"
    """The head or the tail, drawn for each positive and epoch."""
    BOTH = "both"
    """Both the head and the tail, each with its own negatives. A positive is then in two chunks of its batch."""


class PositiveOrder:
    """Shuffles the train triples each epoch and groups them into chunks that corrupt one side, and chunks into batches.

    Each positive occurs once an epoch, or with `Sides.BOTH` once for each side. Each epoch has the same number of
    chunks, so the step number alone tells the epoch and the batch. A chunk that is not full is padded with positives of
    weight 0.

    A large graph's epoch is a row of sections, each a random part of train that is drawn anew in each epoch. A section
    is shuffled and grouped when its first batch is asked for, so memory does not grow with train. A section is much
    larger than a batch because its positives of each side fill chunks: those of a batch alone would often leave two
    chunks of each batch half empty.

    Of a table on disk, sections are of one state each (see graph/shards.py). The batches of such a section have the
    same number of chunks, give or take one. States differ from epoch to epoch, so batches are a little smaller than
    `batch_size`: there are enough of them for any states.

    Example: `PositiveOrder(train, p, batch_size=1024, chunk_size=16, sides="one", seed=0).batch(0)` is a `Batch` of at
    most 64 chunks.

    Args:
        train: the triples as ids.
        head_probability: of each relation, the probability that the head is corrupted: 0.5 for "uniform",
            `RelationStatistics.head_probability` for "bernoulli". Not used with `Sides.BOTH`.
        batch_size: positives a step over all ranks; a multiple of `chunk_size`.
        chunk_size: positives of a chunk.
        sides: "one" or "both", see `Sides`.
        weight: the weights of positives in the loss; None: all have weight 1.
        states: of a table on disk; train is sorted as they say. None: all entities are in memory.

    Raises:
        InputError: a size, or `sides`, is not allowed.
    """

    def __init__(
        self,
        train: Int[Tensor, "T 3"],
        head_probability: Float64[Tensor, " R"],
        *,
        batch_size: int,
        chunk_size: int,
        sides: str,
        seed: int,
        weight: Weights | None = None,
        states: ShardStates | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"trainer.batch_size must be at least 1, got {batch_size}")
        if chunk_size < 1:
            raise InputError(f"trainer.chunk_size must be at least 1, got {chunk_size}")
        if batch_size % chunk_size:
            raise InputError(
                f"trainer.chunk_size must divide trainer.batch_size ({batch_size}), got {chunk_size}: "
                "a batch is a whole number of chunks"
            )
        if sides not in list(Sides):
            raise InputError(f"trainer.sides must be one of {', '.join(Sides)}, got {sides!r}")
        self.train = train
        self.head_probability = head_probability
        self.chunk_size = chunk_size
        self.chunks_per_batch = batch_size // chunk_size
        self.sides = Sides(sides)
        self.seed = seed
        self.weight = weight
        # Padding both sides takes at most one chunk more; always adding it keeps the number of chunks fixed.
        self._padding = 1 if self.sides == Sides.ONE and chunk_size > 1 else 0
        self._section_batches = max(SECTION // batch_size, 2)
        self._section_size = (self._section_batches * self.chunks_per_batch - self._padding) * chunk_size
        self._states = states
        self._parts = lru_cache(maxsize=2)(self._cut)
        parts = self._parts(0)
        self.num_sections = len(parts)
        self.num_chunks = parts[-1].first_chunk + parts[-1].chunks * self._of_each
        self.steps_per_epoch = sum(part.batches for part in parts)
        self._section = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step of the stage. Steps are counted from 0 over all epochs.

        The batch is on the CPU. It has `chunks_per_batch` chunks, twice as many with `Sides.BOTH`; the last batch of an
        epoch may have fewer.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        parts = self._parts(epoch if self._states is not None else 0)
        starts = list(accumulate(part.batches for part in parts))
        place = bisect_right(starts, position)
        part = parts[place]
        position -= starts[place] - part.batches
        section = self._section(epoch, part)
        first, stop = (self._first_chunk(part, number) * self._of_each for number in (position, position + 1))
        row = section.row[first * self.chunk_size : stop * self.chunk_size]
        # Padding has the entities of a triple that is in memory anyway.
        stand_in = 0 if part.positives is None else int(part.positives.start[0])
        head, relation, tail = self.train[torch.where(row >= 0, row, stand_in)].long().t().contiguous()
        weight = 1.0 if self.weight is None else self.weight(head, relation, tail)
        weight = torch.where(row >= 0, weight, torch.zeros(len(row), dtype=torch.float64))
        # One after the other, whatever the processor, as rounding is the same on all ranks and machines then.
        total = float(torch.bincount(torch.zeros_like(row), weight)) if len(row) else 0.0
        return Batch(
            head=head,
            relation=relation,
            tail=tail,
            weight=weight,
            chunk=section.chunk[first:stop],
            head_chunks=section.head_chunks[position],
            chunk_size=self.chunk_size,
            seed=self.seed,
            epoch=epoch,
            # The last batch of an epoch may be padding only; its mean must be 0, not 0 / 0.
            global_weight=total if total > 0 else 1.0,
            step=step,
            resident=None if self._states is None else self._resident(self._states, epoch, part.state),
        )

    def _resident(self, states: ShardStates, epoch: int, state: int) -> Resident:
        of_epoch = states.of_epoch(self.seed, epoch)
        # The next epoch begins with what is in memory in the last state.
        return states.resident(of_epoch[state], of_epoch[min(state + 1, len(of_epoch) - 1)])

    def _cut(self, epoch: int) -> list[_Part]:
        """The sections of an epoch. Without states, all epochs have the same."""
        ranges: list[Ranges | None] = [None]
        if self._states is not None:
            ranges = [state.positives for state in self._states.of_epoch(self.seed, epoch)]
        cuts = [
            (state, positives, size, first)
            for state, positives in enumerate(ranges)
            for size in [len(self.train) if positives is None else positives.size]
            for first in range(0, max(size, 1), self._section_size)
        ]
        sizes = [min(self._section_size, of_state - first) for _, _, of_state, first in cuts]
        batches = self._batches([self._distinct_chunks(size) for size in sizes])
        parts: list[_Part] = []
        chunk = 0
        for number, (state, positives, of_state, first) in enumerate(cuts):
            chunks = max(self._distinct_chunks(sizes[number]), batches[number])
            part = _Part(state, positives, of_state, first, sizes[number], batches[number], chunks, chunk, number)
            parts.append(part)
            chunk += max(chunks, part.batches * self.chunks_per_batch) * self._of_each
        return parts

    def _batches(self, chunks: list[int]) -> list[int]:
        """The number of batches of sections with these numbers of chunks; those of states are of one sum always."""
        batches = [-(-each // self.chunks_per_batch) for each in chunks]
        if self._states is None:
            return batches
        # A section has less than a batch more than its positives fill, and a state less than a section.
        sections = self._states.most + len(self.train) // self._section_size
        per_section = self.chunks_per_batch + self._padding + 1
        most = (len(self.train) // self.chunk_size + sections * per_section) // self.chunks_per_batch
        largest = [(-each / count, place) for place, (each, count) in enumerate(zip(chunks, batches, strict=True))]
        heapify(largest)
        for _ in range(most - sum(batches)):  # the largest batches become smaller
            place = largest[0][1]
            batches[place] += 1
            heapreplace(largest, (-chunks[place] / batches[place], place))
        return batches

    def _first_chunk(self, part: _Part, batch: int) -> int:
        """Chunks of a section before a batch, counting one side of `Sides.BOTH`."""
        if self._states is None:
            return min(batch * self.chunks_per_batch, part.chunks)
        return -(-batch * part.chunks // part.batches)

    @property
    def _of_each(self) -> int:
        """How many chunks a positive is in."""
        return 2 if self.sides == Sides.BOTH else 1

    def _distinct_chunks(self, size: int) -> int:
        """Chunks of a section of this many positives, counting one side of `Sides.BOTH`."""
        return -(-size // self.chunk_size) + self._padding

    def _members(self, epoch: int, part: _Part) -> Int64[Tensor, " P"]:
        """The train triples of a section."""
        place = torch.arange(part.first, part.first + part.size)
        if part.size < part.of_state:
            key = (self.seed, epoch, part.state) if part.state else (self.seed, epoch)
            place = permuted(place, part.of_state, stream("sections of positives", *key))
        return place if part.positives is None else part.positives.at(place)

    def _shuffle(self, epoch: int, part: _Part) -> _Section:
        # The first section's key has no number: it is as old as runs that had no sections.
        key = (self.seed, epoch, part.number) if part.number else (self.seed, epoch)
        generator = torch.Generator().manual_seed(stream("order of positives", *key))
        members = self._members(epoch, part)
        shuffled = members[torch.randperm(len(members), generator=generator)]
        if self.sides == Sides.BOTH:
            heads = tails = shuffled
        else:
            side = random_uniform(stream("corrupted side", self.seed, epoch), shuffled)
            corrupts_head = side < self.head_probability[self.train[shuffled, 1].long()]
            heads, tails = shuffled[corrupts_head], shuffled[~corrupts_head]
        head_chunks = -(-len(heads) // self.chunk_size)
        triple = shuffled.new_full((part.chunks * self._of_each * self.chunk_size,), -1)
        triple[: len(heads)] = heads
        triple[head_chunks * self.chunk_size :][: len(tails)] = tails
        order = torch.randperm(part.chunks, generator=generator)
        return self._lay_out(triple.view(-1, self.chunk_size), head_chunks, order, part)

    def _lay_out(
        self, triple: Int64[Tensor, "K size"], head_chunks: int, order: Int64[Tensor, " distinct"], part: _Part
    ) -> _Section:
        """Arranges chunks of train rows in batches, with the head chunks of each batch first."""
        stops = torch.tensor([self._first_chunk(part, number + 1) for number in range(part.batches)])
        place = torch.bucketize(torch.arange(len(order)), stops, right=True)
        if self.sides == Sides.BOTH:
            order, place = torch.cat([order, order + len(order)]), place.repeat(2)
        corrupts_tail = order >= head_chunks
        chunk = order[torch.argsort(2 * place + corrupts_tail, stable=True)]
        heads = torch.bincount(place[~corrupts_tail], minlength=part.batches)
        return _Section(triple[chunk].flatten(), part.first_chunk + chunk, heads.tolist())
