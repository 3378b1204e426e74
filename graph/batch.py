"""What travels through a training step: the positives and the negatives proposed for them.

A *chunk* is the unit of everything: a few positives that have one corrupted side and one pool of candidates. A global
batch is a fixed list of chunks; a rank works on whole chunks of it. Shapes, here and everywhere: B positives,
C chunks (B = C x chunk_size), N negatives, M candidates.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from graph.counter_random import paired_integers, paired_uniform, stream


@dataclass(frozen=True)
class Batch:
    """Positives of one step: all of them, or the chunks that one rank works on.

    The first `head_chunks` chunks have their head corrupted, the others their tail, so that a side is a slice.
    """

    head: Int64[Tensor, " B"]
    relation: Int64[Tensor, " B"]
    tail: Int64[Tensor, " B"]
    weight: Float64[Tensor, " B"]
    """What a positive counts in the loss; 0 where a chunk is filled up."""
    chunk: Int64[Tensor, " C"]
    """The chunk's number within its epoch: with (seed, epoch) the key of its random numbers."""
    head_chunks: int
    chunk_size: int
    seed: int
    epoch: int
    global_weight: float
    """Sum of `weight` over the whole global batch, the same on every rank."""
    step: int = 0
    """The step of its stage that this batch is for, counted from 0: what schedules go by."""

    @classmethod
    def of_facts(
        cls,
        head: Int64[Tensor, " B"],
        relation: Int64[Tensor, " B"],
        tail: Int64[Tensor, " B"],
        *,
        heads: int,
        chunk: Int64[Tensor, " B"],
        seed: int,
        epoch: int,
    ) -> "Batch":
        """Facts that are no batch of an epoch: chunks of one positive each, all of weight 1.

        Args:
            heads: how many of them, the first ones, have their head corrupted.
            chunk: with seed and epoch, the keys of random numbers.
        """
        weight = torch.ones(len(head), dtype=torch.float64, device=head.device)
        return cls(head, relation, tail, weight, chunk, heads, 1, seed, epoch, max(float(len(head)), 1.0))

    @property
    def head_rows(self) -> int:
        """Number of positives whose head is corrupted; they come first."""
        return self.head_chunks * self.chunk_size

    @property
    def anchor(self) -> Int64[Tensor, " B"]:
        """The entity that is kept: the tail where the head is corrupted, else the head."""
        return torch.cat([self.tail[: self.head_rows], self.head[self.head_rows :]])

    @property
    def target(self) -> Int64[Tensor, " B"]:
        """The entity that is replaced."""
        return torch.cat([self.head[: self.head_rows], self.tail[self.head_rows :]])

    def slots(self, chunk: Int64[Tensor, " K"]) -> Int64[Tensor, " S"]:
        """Numbers of the positives of chunks, chunk_size of them a chunk.

        Of places of chunks in this batch these are rows of the batch; of `self.chunk`, numbers within the epoch.
        """
        place = torch.arange(self.chunk_size, device=chunk.device)
        return (chunk[:, None] * self.chunk_size + place).flatten()

    def chunks(self, start: int, stop: int) -> "Batch":
        """The chunks [start, stop) of this batch."""
        return self._chosen([(start, stop)])

    def selected(self, place: Int64[Tensor, " K"]) -> "Batch":
        """The chunks in these places of the batch, which ascend."""
        row = self.slots(place)
        rows = {name: getattr(self, name)[row] for name in ("head", "relation", "tail", "weight")}
        return replace(self, **rows, chunk=self.chunk[place], head_chunks=int((place < self.head_chunks).sum()))

    def share(self, part: int, parts: int) -> "Batch":
        """One of `parts` nearly equal parts, with as much of either side: with both sides, of much the same positives.

        A rank then looks up fewer rows of others than if it had one side of everything.
        """
        heads, total = self.head_chunks, len(self.chunk)
        head = [heads * each // parts for each in range(part + 2)]
        # Tails make up what a part lacks of its share of all chunks; the running maximum keeps each range from being
        # negative where the two sides round differently.
        tail = [heads + max(total * i // parts - head[i] for i in range(each + 1)) for each in (part, part + 1)]
        return self._chosen([(head[part], head[part + 1]), (tail[0], tail[1])])

    def _chosen(self, ranges: list[tuple[int, int]]) -> "Batch":
        def of(value: Tensor, size: int) -> Tensor:
            pieces = [value[start * size : stop * size] for start, stop in ranges if start < stop]
            return pieces[0] if len(pieces) == 1 else torch.cat([value[:0], *pieces])

        rows = {name: of(getattr(self, name), self.chunk_size) for name in ("head", "relation", "tail", "weight")}
        clip = self.head_chunks
        head_chunks = sum(min(stop, clip) - min(start, clip) for start, stop in ranges)
        return replace(self, **rows, chunk=of(self.chunk, 1), head_chunks=head_chunks)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("head", "relation", "tail", "weight", "chunk")}
        return replace(self, **tensors)

    def share_of_mean(self, value: Float[Tensor, " B"]) -> Float64[Tensor, ""]:
        """These chunks' share of the weighted mean over the global batch: the shares of all ranks sum to the mean."""
        return torch.dot(value.double(), self.weight) / self.global_weight

    def integers(self, purpose: str, count: int, high: int) -> Int64[Tensor, "C count"]:
        """Uniform integers in [0, high) for each chunk, the same at every number of processes."""
        return paired_integers(stream(purpose, self.seed, self.epoch), self.chunk, count, high)

    def uniform(self, purpose: str, count: int) -> Float64[Tensor, "C count"]:
        """Uniform numbers in (0, 1) for each chunk, the same at every number of processes."""
        return paired_uniform(stream(purpose, self.seed, self.epoch), self.chunk, count)

    def integers_per_positive(self, purpose: str, count: int, high: int) -> Int64[Tensor, "B count"]:
        """Uniform integers in [0, high) for each positive, the same at every number of processes."""
        return self.integers(purpose, self.chunk_size * count, high).reshape(len(self.head), count)

    def uniform_per_positive(self, purpose: str, count: int) -> Float64[Tensor, "B count"]:
        """Uniform numbers in (0, 1) for each positive, the same at every number of processes."""
        numbers = self.uniform(purpose, self.chunk_size * count)
        return numbers.reshape(len(self.head), count)


@dataclass(frozen=True)
class Proposal:
    """The distribution that negatives were drawn from, for losses that correct for it (samplers' "log q").

    Log-probabilities over all entities of one draw for a positive, before anything else of the batch is known. They
    are finite: a sampler that could never draw the target has no proposal.
    """

    negative: Float[Tensor, "B N"]
    target: Float[Tensor, " B"]
    """Of the entity that was replaced: what the positive itself would be corrected by."""


@dataclass(frozen=True)
class Negatives:
    """Entities that corrupt the positives of a batch, in the place of `Batch.target`."""

    entity: Int64[Tensor, "C N"]
    """Negatives of each chunk; C = B means that each positive has its own, C = 1 that all share them."""
    known: Bool[Tensor, "B N"] | None = None
    """True where the corrupted triple is a train fact, if the sampler asked for masking: the loss leaves it out."""
    log_prob: Float[Tensor, "B N"] | None = None
    """The log-probability of each draw as it was made, where the sampler knows it; for KBGAN within its pool."""
    proposal: Proposal | None = None
    """Where each negative came from, as a distribution over all entities that does not depend on the draw of a pool."""
    suspected: Bool[Tensor, "B N"] | None = None
    """True where the sampler takes the corrupted triple for a fact that is missing from train, if it judges that."""
    pool: Int64[Tensor, "P M"] | None = None
    """The candidates that the negatives were drawn from, where there is such a pool."""
    pick: Int64[Tensor, "B N"] | None = None
    """Where in its pool each negative stands, if every positive drew its own from there."""
    reward_pool: bool = False
    """Whether the sampler wants a reward for every candidate of the pool, instead of for the negatives."""
