"""The order of positives: which chunks each step trains on. It depends on the seed and the epoch only."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.counter_random import random_uniform, stream
from graph.errors import InputError
from graph.permutation import permuted
from graph.shards import Resident, ShardStates

SECTION = 1 << 21
"""The most positives that are shuffled at a time. Graphs with fewer train triples have one section an epoch."""
Weights = Callable[[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, " B"]], Float64[Tensor, " B"]]
"""The weights in the loss of positives with these heads, relations and tails."""


@dataclass(frozen=True)
class _Part:
    """Where a section is in an epoch, before it is shuffled."""

    state: int
    first: int
    """Positives of the state in sections before it."""
    size: int
    batches: int
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

    Of a table on disk, sections are of one state each (see graph/shards.py), and odd epochs go through them backwards:
    so an epoch begins with the shards that are in memory already.

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
        self._parts = self._cut()
        self.num_sections = len(self._parts)
        self.num_chunks = self._parts[-1].first_chunk + self._distinct_chunks(self._parts[-1].size) * self._of_each
        self._starts = [list(accumulate(each.batches for each in parts)) for parts in self._directions]
        self.steps_per_epoch = self._starts[0][-1]
        self._section = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step of the stage. Steps are counted from 0 over all epochs.

        The batch is on the CPU. It has `chunks_per_batch` chunks, twice as many with `Sides.BOTH`; the last batch of an
        epoch may have fewer.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        backwards = self._states is not None and epoch % 2
        place = bisect_right(self._starts[backwards], position)
        part = self._directions[backwards][place]
        position -= self._starts[backwards][place] - part.batches
        section, size = self._section(epoch, part), self.chunks_per_batch * self._of_each
        row = section.row[position * size * self.chunk_size : (position + 1) * size * self.chunk_size]
        # Padding has the entities of a triple that is in memory anyway.
        stand_in = 0 if self._states is None else int(self._states.states[part.state].positives.start[0])
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
            chunk=section.chunk[position * size : (position + 1) * size],
            head_chunks=section.head_chunks[position],
            chunk_size=self.chunk_size,
            seed=self.seed,
            epoch=epoch,
            # The last batch of an epoch may be padding only; its mean must be 0, not 0 / 0.
            global_weight=total if total > 0 else 1.0,
            step=step,
            resident=None if self._states is None else self._resident(part.state, backwards=bool(backwards)),
        )

    @property
    def _directions(self) -> tuple[list[_Part], list[_Part]]:
        """The sections of even and of odd epochs."""
        return self._parts, self._parts[::-1] if self._states is not None else self._parts

    def _resident(self, state: int, *, backwards: bool) -> Resident:
        assert self._states is not None
        last = len(self._states.states) - 1
        # The last state of an epoch is the first of the next.
        following = max(state - 1, 0) if backwards else min(state + 1, last)
        return self._states.resident(state, following)

    def _cut(self) -> list[_Part]:
        """The sections of an epoch."""
        sizes = [len(self.train)] if self._states is None else [each.positives.size for each in self._states.states]
        parts: list[_Part] = []
        chunk = 0
        for state, of_state in enumerate(sizes):
            for first in range(0, max(of_state, 1), self._section_size):
                size = min(self._section_size, of_state - first)
                batches = -(-self._distinct_chunks(size) // self.chunks_per_batch)
                parts.append(_Part(state, first, size, batches, chunk, len(parts)))
                chunk += batches * self.chunks_per_batch * self._of_each
        return parts

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
        of_state = len(self.train) if self._states is None else self._states.states[part.state].positives.size
        if part.size < of_state:
            key = (self.seed, epoch, part.state) if part.state else (self.seed, epoch)
            place = permuted(place, of_state, stream("sections of positives", *key))
        return place if self._states is None else self._states.states[part.state].positives.at(place)

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
        distinct = self._distinct_chunks(part.size)
        triple = shuffled.new_full((distinct * self._of_each * self.chunk_size,), -1)
        triple[: len(heads)] = heads
        triple[head_chunks * self.chunk_size :][: len(tails)] = tails
        order = torch.randperm(distinct, generator=generator)
        return self._lay_out(triple.view(-1, self.chunk_size), head_chunks, order, part.first_chunk)

    def _lay_out(
        self, triple: Int64[Tensor, "K size"], head_chunks: int, order: Int64[Tensor, " distinct"], first_chunk: int
    ) -> _Section:
        """Arranges chunks of train rows in batches, with the head chunks of each batch first."""
        place = torch.arange(len(order)) // self.chunks_per_batch
        batches = -(-len(order) // self.chunks_per_batch)
        if self.sides == Sides.BOTH:
            order, place = torch.cat([order, order + len(order)]), place.repeat(2)
        corrupts_tail = order >= head_chunks
        chunk = order[torch.argsort(2 * place + corrupts_tail, stable=True)]
        heads = torch.bincount(place[~corrupts_tail], minlength=batches)
        return _Section(triple[chunk].flatten(), first_chunk + chunk, heads.tolist())
