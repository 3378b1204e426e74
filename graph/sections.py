"""Sections of an epoch: positives that were shuffled, laid out in chunks, and chunks in batches.

The steps are the same on a CPU and on a GPU. None of them needs a number from the device, so the host waits for a GPU
once a section, for what it must know of each batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor
from torch.nn import functional

from graph.shards import Ranges


@dataclass(frozen=True)
class Part:
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
class Section:
    """A part of an epoch: some whole batches, in their order, so that each batch is a slice."""

    row: Int64[Tensor, " P"]
    """The train triple of each positive; -1 is padding."""
    chunk: Int64[Tensor, " K"]
    head_chunks: Int64[Tensor, " batches"]
    """The number of chunks of each batch that corrupt the head."""
    positives: Int64[Tensor, " batches"]
    """The number of positives of each batch, without padding."""


@dataclass(frozen=True)
class Columns:
    """A section whose triples are on a GPU too, so that a batch is a slice of each column."""

    head: Int64[Tensor, " P"]
    relation: Int64[Tensor, " P"]
    tail: Int64[Tensor, " P"]
    weight: Float64[Tensor, " P"]
    """1; 0 for padding."""
    chunk: Int64[Tensor, " K"]
    head_chunks: list[int]
    positives: list[int]

    @classmethod
    def of(cls, section: Section, train: Int[Tensor, "T 3"]) -> "Columns":
        """The section of these train triples, on their device. The host waits for what it must know of each batch."""
        head, relation, tail = train[section.row.clamp(min=0)].long().t().contiguous()
        head_chunks, positives = torch.stack([section.head_chunks, section.positives]).tolist()
        return cls(head, relation, tail, (section.row >= 0).double(), section.chunk, head_chunks, positives)


def lay_out(
    shuffled: Int64[Tensor, " P"],
    corrupts_head: Bool[Tensor, " P"] | None,
    order: Int64[Tensor, " distinct"],
    batch: Int64[Tensor, " distinct"],
    part: Part,
    chunk_size: int,
) -> Section:
    """Fills chunks of one side, and arranges them in batches, with the head chunks of each batch first.

    Args:
        shuffled: the train triple of each positive.
        corrupts_head: whether the head is corrupted, else the tail; None: both are, in a chunk each.
        order: the chunks, shuffled.
        batch: the batch within the section of each of them, ascending.
    """
    if corrupts_head is None:
        heads = -(-part.size // chunk_size)
        order, batch = torch.cat([order, order + part.chunks]), batch.repeat(2)
        # A chunk of tails has the positives of a chunk of heads, so these are stored once; the last row has none.
        row = functional.pad(shuffled, (0, (heads + 1) * chunk_size - part.size), value=-1)
        row_of = torch.where(order < heads, order, order - heads).clamp(max=heads)
    else:
        before = corrupts_head.cumsum(0)
        heads = (before[-1:] + (chunk_size - 1)) // chunk_size if part.size else 0
        others = torch.arange(part.size, device=order.device) - before
        slot = torch.where(corrupts_head, before - 1, heads * chunk_size + others)
        row = torch.full((len(order) * chunk_size,), -1, dtype=torch.int64, device=order.device)
        row, row_of = row.scatter_(0, slot, shuffled), order
    corrupts_tail = order >= heads
    arranged = torch.argsort(2 * batch + corrupts_tail, stable=True)
    chunk = order[arranged]
    row, of_batch = row.view(-1, chunk_size)[row_of[arranged]], batch[arranged]
    counts = torch.zeros((2, part.batches), dtype=torch.int64, device=order.device)
    counts[0].index_add_(0, batch, (~corrupts_tail).long())
    counts[1].index_add_(0, of_batch, (row >= 0).sum(1))
    return Section(row.flatten(), part.first_chunk + chunk, *counts)
