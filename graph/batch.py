"""The data of a training step: the positives and the negatives proposed for them.

A *chunk* is a group of consecutive positives that corrupt the same side and share one pool of candidates. A global
batch is a fixed list of chunks. Each rank works on whole chunks. Shapes in all files: B positives, C chunks
(B = C x chunk_size), N negatives of a positive, M candidates of a pool.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from graph.counter_random import StreamKey, paired_at_least, paired_integers, paired_uniform, stream
from graph.shards import Resident
from graph.transfer import sent
from kernels.means import weighted_mean
from kernels.queries import HeadRows


@dataclass(frozen=True)
class Batch:
    """The positives of one step: the global batch, or the chunks of it that one rank works on.

    The first `head_chunks` chunks corrupt the head, the others the tail, so each side is a slice.

    Example: with `chunk_size=2` and `head_chunks=1`, B = 4 positives are 2 chunks. Rows 0 and 1 corrupt the head: their
    `anchor` is the tail and their `target` is the head. Rows 2 and 3 corrupt the tail.
    """

    head: Int64[Tensor, " B"]
    relation: Int64[Tensor, " B"]
    tail: Int64[Tensor, " B"]
    weight: Float64[Tensor, " B"]
    """The weight of each positive in the loss; 0 for padding of a chunk that is not full."""
    chunk: Int64[Tensor, " C"]
    """The number of each chunk within its epoch. Its random numbers are a function of (seed, epoch, chunk)."""
    head_chunks: int
    chunk_size: int
    seed: int
    epoch: int
    global_weight: float
    """Sum of `weight` over the whole global batch, the same on every rank."""
    step: int = 0
    """The step within the stage, counted from 0. Schedules depend on it."""
    resident: Resident | None = None
    """The entities that are in memory, with `placement.storage=disk`; None: all are."""

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
    def heads_for_kernels(self) -> HeadRows:
        """`head_rows`, as kernels take it: see `RepeatedBatch`."""
        return self.head_rows

    @property
    def anchor(self) -> Int64[Tensor, " B"]:
        """The entity of each positive that is kept: the tail if the head is corrupted, else the head."""
        return self._anchor_and_target[0]

    @property
    def target(self) -> Int64[Tensor, " B"]:
        """The entity of each positive that negatives replace: the head if the head is corrupted, else the tail."""
        return self._anchor_and_target[1]

    @cached_property
    def _anchor_and_target(self) -> Int64[Tensor, "2 B"]:
        return torch.cat(self.anchor_and_target_parts).view(2, len(self.head))  # one kernel of a GPU makes both

    @property
    def anchor_and_target_parts(self) -> list[Int64[Tensor, " _"]]:
        """`anchor`, then `target`, each as the part whose heads are corrupted and the other part."""
        heads = self.head_rows
        return [self.tail[:heads], self.head[heads:], self.head[:heads], self.tail[heads:]]

    def slots(self, chunk: Int64[Tensor, " K"]) -> Int64[Tensor, " S"]:
        """Numbers of the positives of chunks, chunk_size of them a chunk.

        Of places of chunks in this batch these are rows of the batch; of `self.chunk`, numbers within the epoch.
        """
        place = torch.arange(self.chunk_size, device=chunk.device)
        return (chunk[:, None] * self.chunk_size + place).flatten()

    def chunks(self, start: int, stop: int) -> "Batch":
        """The batch of the chunks with positions start, ..., stop - 1 in this batch."""
        return self._chosen([(start, stop)])

    def selected(self, place: Int64[Tensor, " K"]) -> "Batch":
        """The batch of the chunks at these positions of this batch; positions must ascend."""
        row = self.slots(place)
        rows = {name: getattr(self, name)[row] for name in ("head", "relation", "tail", "weight")}
        return replace(self, **rows, chunk=self.chunk[place], head_chunks=int((place < self.head_chunks).sum()))

    def share(self, part: int, parts: int) -> "Batch":
        """Part number `part` (from 0) of `parts` nearly equal parts of the batch, each with its share of both sides.

        With `Sides.BOTH` a positive has a head chunk and a tail chunk. A part mostly gets both of them, so a rank looks
        up fewer rows of other ranks.
        """
        head, tail = self._bounds_of_parts(parts)
        return self._chosen([(head[part], head[part + 1]), (tail[part], tail[part + 1])])

    def chunks_of_parts(self, parts: int) -> list[int]:
        """How many chunks each part has that `share` gives."""
        head, tail = (pairwise(bounds) for bounds in self._bounds_of_parts(parts))
        return [b - a + d - c for (a, b), (c, d) in zip(head, tail, strict=True)]

    def _bounds_of_parts(self, parts: int) -> tuple[list[int], list[int]]:
        """Where the head chunks of each part begin, and its tail chunks; and the end of the last part."""
        heads, total = self.head_chunks, len(self.chunk)
        head = [heads * each // parts for each in range(parts + 1)]
        # Tail boundaries even out each part's total; the running maximum keeps a range from being negative.
        tail = accumulate((total * each // parts - head[each] for each in range(parts + 1)), max)
        return head, [heads + each for each in tail]

    def _chosen(self, ranges: list[tuple[int, int]]) -> "Batch":
        def of(value: Tensor, size: int) -> Tensor:
            pieces = [value[start * size : stop * size] for start, stop in ranges if start < stop]
            return pieces[0] if len(pieces) == 1 else torch.cat([value[:0], *pieces])

        rows = {name: of(getattr(self, name), self.chunk_size) for name in ("head", "relation", "tail", "weight")}
        clip = self.head_chunks
        head_chunks = sum(min(stop, clip) - min(start, clip) for start, stop in ranges)
        return replace(self, **rows, chunk=of(self.chunk, 1), head_chunks=head_chunks)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device; from the CPU to a GPU in one copy, which the host does not wait for."""
        if self.head.device == device:
            return self
        names = ("weight", "head", "relation", "tail", "chunk")  # weight first, so that it is aligned as if alone
        words = [getattr(self, name).view(torch.int64) for name in names]
        pieces = sent(torch.cat(words), device).split([len(each) for each in words])
        tensors = dict(zip(names, pieces, strict=True))
        return replace(self, **{**tensors, "weight": tensors["weight"].view(torch.float64)})

    def share_of_mean(self, value: Float[Tensor, " B"]) -> Float64[Tensor, ""]:
        """This batch's share of the weighted mean over the global batch; the shares of all ranks sum to the mean."""
        return weighted_mean(value, self.weight, self.global_weight)

    def integers(self, purpose: str, count: int, high: int) -> Int64[Tensor, "C count"]:
        """Uniform integers in [0, high) for each chunk, the same at every number of processes."""
        return paired_integers(self._stream(purpose), self.chunk, count, high)

    def uniform(self, purpose: str, count: int) -> Float64[Tensor, "C count"]:
        """Uniform numbers in (0, 1) for each chunk, the same at every number of processes."""
        return paired_uniform(self._stream(purpose), self.chunk, count)

    def _stream(self, purpose: str) -> StreamKey:
        return stream(purpose, self.seed, self.epoch)

    def entities(self, purpose: str, count: int, num_entities: int) -> Int64[Tensor, "C count"]:
        """Uniform entities for each chunk, of those that are in memory; see `integers`.

        Args:
            num_entities: of the whole graph.
        """
        if self.resident is None:
            return self.integers(purpose, count, num_entities)
        return self.resident.entity(self.integers(purpose, count, self.resident.count))

    def integers_per_positive(self, purpose: str, count: int, high: int) -> Int64[Tensor, "B count"]:
        """Uniform integers in [0, high) for each positive, the same at every number of processes."""
        return self.integers(purpose, self.chunk_size * count, high).reshape(len(self.head), count)

    def uniform_per_positive(self, purpose: str, count: int) -> Float64[Tensor, "B count"]:
        """Uniform numbers in (0, 1) for each positive, the same at every number of processes."""
        numbers = self.uniform(purpose, self.chunk_size * count)
        return numbers.reshape(len(self.head), count)

    def kept_per_positive(self, purpose: str, count: int, probability: float) -> Bool[Tensor, "B count"]:
        """True with probability 1 - `probability`: where `uniform_per_positive` is at least that."""
        kept = paired_at_least(self._stream(purpose), self.chunk, self.chunk_size * count, probability)
        return kept.reshape(len(self.head), count)


@dataclass(frozen=True)
class Proposal:
    """Log-probabilities of the distribution that negatives are drawn from ("log q"), for losses that correct for it.

    For each positive it is the distribution of one draw over all entities, not within a pool that was drawn before. All
    values are finite: a sampler that can never draw the target gives no proposal.
    """

    negative: Float[Tensor, "B N"]
    target: Float[Tensor, " B"]
    """The log-probability of drawing the replaced entity. The loss corrects the positive's score by it."""


@dataclass(frozen=True)
class Negatives:
    """Entities that replace `Batch.target` and so corrupt the positives of a batch."""

    entity: Int64[Tensor, "C N"]
    """The negatives of each of C equal groups of consecutive positives: C = B gives each positive its own."""
    known: Bool[Tensor, "B N"] | None = None
    """True where the corrupted triple is a train fact, so that the loss leaves it out; None: nothing is masked."""
    log_prob: Float[Tensor, "B N"] | None = None
    """The log-probability of each draw, for KBGAN within its pool; None if the sampler does not know it."""
    proposal: Proposal | None = None
    """The distribution of draws over all entities; None if the sampler does not know it."""
    suspected: Bool[Tensor, "B N"] | None = None
    """True where the sampler suspects that the corrupted triple is true but missing from train; None: it can't tell."""
    pool: Int64[Tensor, "P M"] | None = None
    """The candidates that the negatives were drawn from; None if the sampler draws from no pool."""
    pick: Int64[Tensor, "B N"] | None = None
    """The position of each negative in its pool; None unless each positive drew its own negatives from the pool."""
    reward_pool: bool = False
    """True: the sampler needs a reward for every candidate of the pool. False: for the negatives only."""
