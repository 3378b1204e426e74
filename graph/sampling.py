"""The order of positives: which chunks each step trains on. It depends on the seed and the epoch only."""

from bisect import bisect_right
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from heapq import heapify, heapreplace
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.counter_random import random_uniform, stream
from graph.drawn_ahead import DrawnAhead
from graph.errors import InputError
from graph.latest import Latest
from graph.permutation import permuted
from graph.sections import Columns, Part, Section, lay_out
from graph.shards import Ranges, Resident, ShardStates
from graph.transfer import sent

_CPU = torch.device("cpu")

SECTION = 1 << 21
"""The most positives that are shuffled at a time. Graphs with fewer train triples have one section an epoch."""
Weights = Callable[[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, " B"]], Float64[Tensor, " B"]]
"""The weights in the loss of positives with these heads, relations and tails."""


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
        device: where train lives, epochs are laid out, and batches are. With `weight` or `states` it must be the CPU.

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
        device: torch.device = _CPU,
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
        on_gpu = device.type != "cpu"
        if on_gpu and (weight is not None or states is not None):
            raise ValueError(f"weights and states are looked up on the CPU, got {device}")
        self.device = device
        # The facts that negatives are compared with are on the GPU as well, and take more memory.
        self.train = train.to(device)
        self.head_probability = head_probability.to(device)
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
        self._section = Latest(self._shuffle)
        self._section_on_gpu = Latest(self._columns)
        self._ahead = DrawnAhead(self._draw) if on_gpu else None

    def batch(self, step: int) -> Batch:
        """The global batch of a step of the stage. Steps are counted from 0 over all epochs.

        It has `chunks_per_batch` chunks, twice as many with `Sides.BOTH`; the last batch of an epoch may have fewer. On
        a GPU it is a view, and the host waits for the first batch of a section alone.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        parts = self._parts(epoch if self._states is not None else 0)
        starts = list(accumulate(part.batches for part in parts))
        place = bisect_right(starts, position)
        part = parts[place]
        position -= starts[place] - part.batches
        first, stop = (self._first_chunk(part, number) * self._of_each for number in (position, position + 1))
        chunks, rows = slice(first, stop), slice(first * self.chunk_size, stop * self.chunk_size)
        common: dict[str, Any] = {"chunk_size": self.chunk_size, "seed": self.seed, "epoch": epoch, "step": step}
        if self.device.type != "cpu":
            on_gpu = self._section_on_gpu(epoch, part)
            return Batch(
                head=on_gpu.head[rows],
                relation=on_gpu.relation[rows],
                tail=on_gpu.tail[rows],
                weight=on_gpu.weight[rows],
                chunk=on_gpu.chunk[chunks],
                head_chunks=on_gpu.head_chunks[position],
                global_weight=max(float(on_gpu.positives[position]), 1.0),
                **common,
            )
        section = self._section(epoch, part)
        row = section.row[rows]
        # Padding has the entities of a triple that is in memory anyway.
        stand_in = 0 if part.positives is None else int(part.positives.start[0])
        # `index_select` takes half the time of `train[...]` where the rows are far apart.
        triples = self.train.index_select(0, torch.where(row >= 0, row, stand_in))
        head, relation, tail = triples.long().t().contiguous()
        weight = 1.0 if self.weight is None else self.weight(head, relation, tail)
        weight = torch.where(row >= 0, weight, torch.zeros(len(row), dtype=torch.float64))
        # One after the other, whatever the processor, as rounding is the same on all ranks and machines then.
        total = float(torch.bincount(torch.zeros_like(row), weight)) if len(row) else 0.0
        return Batch(
            head=head,
            relation=relation,
            tail=tail,
            weight=weight,
            chunk=section.chunk[chunks],
            head_chunks=int(section.head_chunks[position]),
            # The last batch of an epoch may be padding only; its mean must be 0, not 0 / 0.
            global_weight=total if total > 0 else 1.0,
            resident=None if self._states is None else self._resident(self._states, epoch, part.state),
            **common,
        )

    def _resident(self, states: ShardStates, epoch: int, state: int) -> Resident:
        of_epoch = states.of_epoch(self.seed, epoch)
        # The next epoch begins with what is in memory in the last state.
        return states.resident(of_epoch[state], of_epoch[min(state + 1, len(of_epoch) - 1)])

    def _cut(self, epoch: int) -> list[Part]:
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
        parts: list[Part] = []
        chunk = 0
        for number, (state, positives, of_state, first) in enumerate(cuts):
            chunks = max(self._distinct_chunks(sizes[number]), batches[number])
            part = Part(state, positives, of_state, first, sizes[number], batches[number], chunks, chunk, number)
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

    def _first_chunk(self, part: Part, batch: int) -> int:
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

    def _members(self, epoch: int, part: Part) -> Int64[Tensor, " P"]:
        """The train triples of a section."""
        place = torch.arange(part.first, part.first + part.size, device=self.device)
        if part.size < part.of_state:
            key = (self.seed, epoch, part.state) if part.state else (self.seed, epoch)
            place = permuted(place, part.of_state, stream("sections of positives", *key))
        return place if part.positives is None else part.positives.at(place)

    def _draw(self, key: tuple[int, Part]) -> tuple[Int64[Tensor, " P"], Int64[Tensor, " distinct"]]:
        """Random orders of the positives and of the chunks of a section of an epoch, by the CPU's generator."""
        epoch, part = key
        # The first section's key has no number: it is as old as runs that had no sections.
        number = (part.number,) if part.number else ()
        generator = torch.Generator().manual_seed(stream("order of positives", self.seed, epoch, *number))
        return torch.randperm(part.size, generator=generator), torch.randperm(part.chunks, generator=generator)

    def _shuffle(self, epoch: int, part: Part) -> Section:
        if self._ahead is None:
            positives, chunks = self._draw((epoch, part))
        else:
            positives, chunks = self._ahead.take((epoch, part), then=self._after(epoch, part))
        order = sent(chunks, self.device)
        shuffled = self._members(epoch, part)[sent(positives, self.device)]
        corrupts_head = None
        if self.sides == Sides.ONE:
            side = random_uniform(stream("corrupted side", self.seed, epoch), shuffled)
            corrupts_head = side < self.head_probability[self.train[shuffled, 1].long()]
        stops = torch.tensor([self._first_chunk(part, number + 1) for number in range(part.batches)])
        batch = sent(torch.bucketize(torch.arange(part.chunks), stops, right=True), self.device)
        return lay_out(shuffled, corrupts_head, order, batch, part, self.chunk_size)

    def _after(self, epoch: int, part: Part) -> tuple[int, Part]:
        """The next section. Called without states, so all epochs have the same."""
        parts = self._parts(0)
        return (epoch, parts[part.number + 1]) if part.number + 1 < len(parts) else (epoch + 1, parts[0])

    def _columns(self, epoch: int, part: Part) -> Columns:
        return Columns.of(self._shuffle(epoch, part), self.train)
