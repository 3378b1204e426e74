"""The order of positives: which chunks a step trains on, as a function of (seed, epoch) alone."""

from dataclasses import dataclass
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
    order: Int64[Tensor, " K"]


class PositiveOrder:
    """Cuts an epoch's shuffled positives into chunks of one corrupted side, and the chunks into global batches.

    Each positive occurs exactly once an epoch. Its side is drawn with `head_probability` of its relation (0.5 for
    "uniform", tails-per-head share for "Bernoulli"), and positives of one side make up chunks. An epoch always has the
    same number of chunks, whatever was drawn, so that a step number alone says where the run is.
    """

    def __init__(
        self,
        train: Int64[Tensor, "T 3"],
        head_probability: Float64[Tensor, " R"],
        *,
        batch_size: int,
        chunk_size: int,
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
        self.train = train
        self.head_probability = head_probability
        self.chunk_size = chunk_size
        self.chunks_per_batch = batch_size // chunk_size
        self.seed = seed
        # One chunk more than needed when sides are filled up separately: see the class's last sentence.
        self.num_chunks = -(-len(train) // chunk_size) + (chunk_size > 1)
        self.steps_per_epoch = -(-self.num_chunks // self.chunks_per_batch)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """The global batch of a step, counted from 0 over all epochs."""
        epoch_number, position = divmod(step, self.steps_per_epoch)
        epoch = self._epoch(epoch_number)
        chunk = epoch.order[position * self.chunks_per_batch : (position + 1) * self.chunks_per_batch]
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
        side = random_uniform(stream("corrupted side", self.seed, epoch), shuffled)
        corrupts_head = side < self.head_probability[self.train[shuffled, 1]]
        head_chunks = -(-int(corrupts_head.sum()) // self.chunk_size)
        triple = shuffled.new_full((self.num_chunks * self.chunk_size,), -1)
        heads, tails = shuffled[corrupts_head], shuffled[~corrupts_head]
        triple[: len(heads)] = heads
        triple[head_chunks * self.chunk_size :][: len(tails)] = tails
        return _Epoch(
            triple=triple.view(self.num_chunks, self.chunk_size),
            corrupts_head=torch.arange(self.num_chunks) < head_chunks,
            order=torch.randperm(self.num_chunks, generator=generator),
        )
