"""The order of positives: which chunks a step trains on, as a function of (seed, epoch) alone."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from graph.batch import Batch
from graph.counter_random import random_uniform, stream
from graph.errors import InputError


@dataclass(frozen=True)
class _Epoch:
    triple: Int64[Tensor, "K size"]
    """Rows of the train set by chunk; -1 fills a chunk up."""
    corrupts_head: Bool[Tensor, " K"]
    order: Int64[Tensor, " D"]
    """Of the chunks of distinct positives: with both sides, those that corrupt the head."""


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
    says where the run is.
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
        self._distinct_chunks = -(-len(train) // chunk_size)
        if self.sides == Sides.ONE and chunk_size > 1:
            # One more than needed when sides are filled up separately: see the class's last sentence.
            self._distinct_chunks += 1
        self.num_chunks = self._distinct_chunks * (2 if self.sides == Sides.BOTH else 1)
        self.steps_per_epoch = -(-self._distinct_chunks // self.chunks_per_batch)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step, counted from 0 over all epochs."""
        epoch_number, position = divmod(step, self.steps_per_epoch)
        epoch = self._epoch(epoch_number)
        chunk = epoch.order[position * self.chunks_per_batch : (position + 1) * self.chunks_per_batch]
        if self.sides == Sides.BOTH:
            chunk = torch.cat([chunk, chunk + self._distinct_chunks])
        corrupts_head = epoch.corrupts_head[chunk]
        chunk = torch.cat([chunk[corrupts_head], chunk[~corrupts_head]])
        row = epoch.triple[chunk].flatten()
        weight = (row >= 0).double()
        head, relation, tail = self.train[row.clamp(min=0)].unbind(1)
        return Batch(
            head=head,
            relation=relation,
            tail=tail,
            weight=weight,
            chunk=chunk,
            head_chunks=int(corrupts_head.sum()),
            chunk_size=self.chunk_size,
            seed=self.seed,
            epoch=epoch_number,
            # A batch may consist of filling alone (the last of an epoch); its mean is then 0, not 0/0.
            global_weight=max(float(weight.sum()), 1.0),
        )

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
        return _Epoch(
            triple=triple.view(self.num_chunks, self.chunk_size),
            corrupts_head=torch.arange(self.num_chunks) < head_chunks,
            order=torch.randperm(self._distinct_chunks, generator=generator),
        )
