"""The order of positives: which chunks a step trains on, as a function of (seed, epoch) alone."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.batch import Batch
from graph.counter_random import random_uniform, stream
from graph.errors import InputError


@dataclass(frozen=True)
class _Epoch:
    """Positives of an epoch in the order of its batches, so that a batch is a slice of each."""

    head: Int64[Tensor, " P"]
    relation: Int64[Tensor, " P"]
    tail: Int64[Tensor, " P"]
    weight: Float64[Tensor, " P"]
    chunk: Int64[Tensor, " K"]
    head_chunks: list[int]
    """Of each batch."""
    global_weight: list[float]
    """Of each batch."""


class Sides(StrEnum):
    """Which entities of a positive are corrupted."""

    ONE = "one"
    """The head or the tail, drawn for each positive and epoch."""
    BOTH = "both"
    """The head and the tail, each against negatives of its own; a positive then stands in two chunks of its batch."""


class PositiveOrder:
    """Cuts an epoch's shuffled positives into chunks of one corrupted side, and the chunks into global batches.

    Each positive occurs exactly once an epoch, or with `Sides.BOTH` once with each side. A side is drawn with
    `head_probability` of the relation (0.5 for "uniform", tails-per-head share for "Bernoulli"), and positives of one
    side make up chunks. An epoch always has the same number of chunks, whatever was drawn, so that a step number alone
    says where the run is. `weight` is what each train triple counts in the loss; None for all the same.
    """

    def __init__(
        self,
        train: Int64[Tensor, "T 3"],
        head_probability: Float64[Tensor, " R"],
        *,
        batch_size: int,
        chunk_size: int,
        sides: str,
        seed: int,
        weight: Float64[Tensor, " T"] | None = None,
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
        self.weight = torch.ones(len(train), dtype=torch.float64) if weight is None else weight
        self._distinct_chunks = -(-len(train) // chunk_size)
        if self.sides == Sides.ONE and chunk_size > 1:
            # One more, for each side has a last chunk that may be filled up: an epoch then always has as many chunks.
            self._distinct_chunks += 1
        self.num_chunks = self._distinct_chunks * (2 if self.sides == Sides.BOTH else 1)
        self.steps_per_epoch = -(-self._distinct_chunks // self.chunks_per_batch)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step, counted from 0 over all epochs."""
        number, position = divmod(step, self.steps_per_epoch)
        epoch, size = self._epoch(number), self._batch_chunks
        rows = slice(position * size * self.chunk_size, (position + 1) * size * self.chunk_size)
        return Batch(
            head=epoch.head[rows],
            relation=epoch.relation[rows],
            tail=epoch.tail[rows],
            weight=epoch.weight[rows],
            chunk=epoch.chunk[position * size : (position + 1) * size],
            head_chunks=epoch.head_chunks[position],
            chunk_size=self.chunk_size,
            seed=self.seed,
            epoch=number,
            global_weight=epoch.global_weight[position],
            step=step,
        )

    @property
    def _batch_chunks(self) -> int:
        """Chunks of a full batch, on all sides."""
        return self.chunks_per_batch * (2 if self.sides == Sides.BOTH else 1)

    def _shuffle(self, epoch: int) -> _Epoch:
        generator = torch.Generator().manual_seed(stream("order of positives", self.seed, epoch))
        shuffled = torch.randperm(len(self.train), generator=generator)
        if self.sides == Sides.BOTH:
            heads = tails = shuffled
        else:
            side = random_uniform(stream("corrupted side", self.seed, epoch), shuffled)
            corrupts_head = side < self.head_probability[self.train[shuffled, 1]]
            heads, tails = shuffled[corrupts_head], shuffled[~corrupts_head]
        head_chunks = -(-len(heads) // self.chunk_size)
        triple = shuffled.new_full((self.num_chunks * self.chunk_size,), -1)
        triple[: len(heads)] = heads
        triple[head_chunks * self.chunk_size :][: len(tails)] = tails
        order = torch.randperm(self._distinct_chunks, generator=generator)
        return self._lay_out(triple.view(self.num_chunks, self.chunk_size), head_chunks, order)

    def _lay_out(self, triple: Int64[Tensor, "K size"], head_chunks: int, order: Int64[Tensor, " distinct"]) -> _Epoch:
        """Brings chunks of train rows, of which -1 fills a chunk up, into batches whose head chunks come first."""
        place = torch.arange(len(order)) // self.chunks_per_batch
        if self.sides == Sides.BOTH:
            order, place = torch.cat([order, order + self._distinct_chunks]), place.repeat(2)
        corrupts_tail = order >= head_chunks
        by_batch = torch.argsort(2 * place + corrupts_tail, stable=True)
        chunk = order[by_batch]
        row = triple[chunk].flatten()
        head, relation, tail = self.train[row.clamp(min=0)].t().contiguous()
        weight = torch.where(row >= 0, self.weight[row], 0.0)
        batch_of_row = place[by_batch].repeat_interleave(self.chunk_size)
        # A batch may consist of filling alone (the last of an epoch); its mean is then 0, not 0/0.
        global_weight = torch.bincount(batch_of_row, weight, minlength=self.steps_per_epoch)
        global_weight = torch.where(global_weight > 0, global_weight, 1.0)
        heads = torch.bincount(place[~corrupts_tail], minlength=self.steps_per_epoch)
        return _Epoch(head, relation, tail, weight, chunk, heads.tolist(), global_weight.tolist())
