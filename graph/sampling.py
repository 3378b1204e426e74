"""The order of positives: which chunks each step trains on. It depends on the seed and the epoch only."""

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
    """The positives of an epoch in the order of its batches, so that each batch is a slice."""

    head: Int64[Tensor, " P"]
    relation: Int64[Tensor, " P"]
    tail: Int64[Tensor, " P"]
    weight: Float64[Tensor, " P"]
    chunk: Int64[Tensor, " K"]
    head_chunks: list[int]
    """The number of chunks of each batch that corrupt the head."""
    global_weight: list[float]
    """The sum of the weights of each batch."""


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

    Example: `PositiveOrder(train, p, batch_size=1024, chunk_size=16, sides="one", seed=0).batch(0)` is a `Batch` of at
    most 64 chunks.

    Args:
        train: the triples as ids.
        head_probability: of each relation, the probability that the head is corrupted: 0.5 for "uniform",
            `RelationStatistics.head_probability` for "bernoulli". Not used with `Sides.BOTH`.
        batch_size: positives a step over all ranks; a multiple of `chunk_size`.
        chunk_size: positives of a chunk.
        sides: "one" or "both", see `Sides`.
        weight: the weight of each train triple in the loss; None: all have weight 1.

    Raises:
        InputError: a size, or `sides`, is not allowed.
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
            # Padding both sides takes at most one chunk more; always adding it keeps the number of chunks fixed.
            self._distinct_chunks += 1
        self.num_chunks = self._distinct_chunks * (2 if self.sides == Sides.BOTH else 1)
        self.steps_per_epoch = -(-self._distinct_chunks // self.chunks_per_batch)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step of the stage. Steps are counted from 0 over all epochs.

        The batch is on the CPU. It has `chunks_per_batch` chunks, twice as many with `Sides.BOTH`; the last batch of an
        epoch may have fewer.
        """
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
        """Chunks of a full batch, counting both sides."""
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
        """Arranges chunks of train rows (-1 is padding) in batches, with the head chunks of each batch first."""
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
        # The last batch of an epoch may be padding only; its mean must be 0, not 0 / 0.
        global_weight = torch.bincount(batch_of_row, weight, minlength=self.steps_per_epoch)
        global_weight = torch.where(global_weight > 0, global_weight, 1.0)
        heads = torch.bincount(place[~corrupts_tail], minlength=self.steps_per_epoch)
        return _Epoch(head, relation, tail, weight, chunk, heads.tolist(), global_weight.tolist())
