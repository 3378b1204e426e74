"""In-batch negatives (Lerer et al., PyTorch-BigGraph: a large-scale graph embedding system, MLSys 2019)."""

from enum import StrEnum

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.shards import Resident

_BLOCK = 1 << 20
"""Entities whose shares are added at a time."""


class Slots(StrEnum):
    """Which entities of a chunk's positives serve as negatives for the other positives."""

    CORRUPTED = "corrupted"
    """Those on the corrupted side: heads replace a head, tails replace a tail, as in PBG."""
    BOTH = "both"
    """Heads and tails. Each positive is then also corrupted with its own other entity."""


class InBatchSampler(NegativeSampler):
    """Takes the entities of the other positives of the chunk, and adds some uniform ones (Lerer et al. 2019, PBG).

    Entities are [C, N], shared by a chunk, with N = chunk_size + num_uniform (2 x chunk_size + num_uniform for
    slots="both"). The rows of in-batch entities are looked up for the positives anyway, so they only cost their scores.

    An entity is a negative as often as it is in train triples, which lowers the scores of hubs too much. The uniform
    negatives counter that (PBG uses 50 of each kind by default), and so does a loss that corrects for the proposal.

    Differences from PBG: a chunk here has positives of several relations, while PBG's batches have one relation, so
    that its negatives fit the relation's type. Train facts, each positive's own target among them, are always masked
    here; PBG masks the positive's own target only.

    With `placement.storage=disk`, all of them are in memory: a batch's own entities are, and the others are drawn from
    what is.

    Args:
        num_uniform: uniform negatives for each chunk, at least 0.
        slots: "corrupted" or "both", see `Slots`.
    """

    least_chunk_size = 2
    draws_resident = True

    def __init__(self, context: SamplerContext, *, num_uniform: int, slots: str) -> None:
        super().__init__(context)
        require_at_least("generator.num_uniform", num_uniform, 0)
        if slots not in list(Slots):
            raise InputError(f"generator.slots must be one of {', '.join(Slots)}, got {slots!r}")
        self.num_uniform = num_uniform
        self.slots = Slots(slots)
        share = [torch.bincount(context.train[:, side], minlength=context.num_entities).double() for side in (0, 2)]
        if self.slots == Slots.BOTH:
            share = [share[0] + share[1]] * 2
        self.share = torch.stack([each / each.sum() for each in share]).to(context.site.device)
        """[2, E]: the share of each entity among train's heads, then among its tails; both rows the same for BOTH."""
        self._in_memory: tuple[tuple[int, ...], Float64[Tensor, " 2"]] = (), torch.zeros(2, dtype=torch.float64)
        """Shards, and the shares of all entities in them, of train's heads and of its tails."""

    @property
    def knows_proposal(self) -> bool:
        """Always true."""
        return True

    def check_chunk_size(self, chunk_size: int) -> None:
        """Refuses chunks of one positive, which have no other positives to take entities from."""
        if chunk_size < self.least_chunk_size:
            raise InputError(
                "generator: in-batch negatives are the entities of a chunk's other positives, but trainer.chunk_size "
                f"is {chunk_size}: set it to at least {self.least_chunk_size}"
            )

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Takes the chunk's entities and draws uniform ones; does not call `score`."""
        self.check_chunk_size(batch.chunk_size)
        own = [batch.target] if self.slots == Slots.CORRUPTED else [batch.target, batch.anchor]
        # The last chunks of an epoch are filled up with copies of one fact, of weight 0. Random entities replace its
        # own, because otherwise the real positives of such a chunk would have one entity many times as a negative.
        size, entities = batch.chunk_size, self.context.num_entities
        stand_in = batch.entities("for what fills a chunk up", size, entities).flatten()
        own = [torch.where(batch.weight > 0, each, stand_in) for each in own]
        parts = [each.view(len(batch.chunk), size) for each in own]
        uniform = batch.entities("uniform negatives", self.num_uniform, entities)
        entity = torch.cat([*parts, uniform], dim=1)
        known = self.context.known.contains(batch, entity)
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """Averaged over the order of positives: the entity's share of train, mixed with the uniform distribution.

        Of a table on disk, both are of the entities in memory. That is exact for the uniform ones alone: a batch's
        positives have both their entities in memory, and an entity may have more of such triples than others have.
        """
        others = (batch.chunk_size - 1) * (2 if self.slots == Slots.BOTH else 1)
        in_batch = others / (others + self.num_uniform)
        row = torch.arange(len(entity), device=entity.device)
        tail = row >= batch.head_chunks * (len(entity) // max(len(batch.chunk), 1))
        side, resident = tail.long()[:, None], batch.resident
        share = self.share[side, entity]
        if resident is not None:
            share = share / self._share_of(resident)[side]
        uniform = (1 - in_batch) / (self.context.num_entities if resident is None else resident.count)
        return per_positive((in_batch * share + uniform).log(), len(batch.head))

    def _share_of(self, resident: Resident) -> Float64[Tensor, " 2"]:
        """The shares of all entities in memory, added up when other shards are."""
        if self._in_memory[0] != resident.shards:
            total = self.share.new_zeros(2)
            for first in range(0, resident.count, _BLOCK):
                number = torch.arange(first, min(first + _BLOCK, resident.count))
                total += self.share[:, resident.entity(number)].sum(1)
            self._in_memory = resident.shards, total
        return self._in_memory[1]
