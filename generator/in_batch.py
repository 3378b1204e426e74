"""In-batch negatives (Lerer et al., PyTorch-BigGraph: a large-scale graph embedding system, MLSys 2019)."""

from enum import StrEnum

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.known import per_positive


class Slots(StrEnum):
    """Which entities of a chunk's positives are negatives for one another."""

    CORRUPTED = "corrupted"
    """Those in the place that is corrupted: heads for a head, tails for a tail, as in PBG."""
    BOTH = "both"
    """Heads and tails, so that each positive also meets the entity that it keeps."""


class InBatchSampler(NegativeSampler):
    """The entities of a chunk's other positives, and uniform ones that the chunk shares too.

    Their rows are looked up anyway, so they cost no more than products. An entity comes as often as it stands in train,
    which pushes hubs down too far: hence the uniform ones (PBG takes 50 of each by default), or a loss that corrects
    for the proposal. A chunk mixes relations here; PBG makes batches of one relation, so that its negatives are typed
    as well. Each positive's own target is masked, and so is everything else that makes a train fact, which PBG counts.

    Needs trainer.chunk_size of at least 2.

    Args:
        num_uniform: uniform negatives of a chunk, beside its own entities.
        slots: "corrupted" or "both".
    """

    least_chunk_size = 2

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
        """Of each entity among the heads of train, and among the tails; among both for both slots."""

    @property
    def knows_proposal(self) -> bool:
        """Always."""
        return True

    def check_chunk_size(self, chunk_size: int) -> None:
        """A positive alone in its chunk would meet none but uniform entities."""
        if chunk_size < self.least_chunk_size:
            raise InputError(
                "generator: in-batch negatives are the entities of a chunk's other positives, but trainer.chunk_size "
                f"is {chunk_size}: set it to at least {self.least_chunk_size}"
            )

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`; `score` is not asked."""
        self.check_chunk_size(batch.chunk_size)
        own = [batch.target] if self.slots == Slots.CORRUPTED else [batch.target, batch.anchor]
        # The last chunks of an epoch are filled up with copies of one fact, weight 0, which must not be all they meet.
        stand_in = batch.integers_per_positive("for what fills a chunk up", 1, self.context.num_entities)[:, 0]
        own = [torch.where(batch.weight > 0, each, stand_in) for each in own]
        parts = [each.view(len(batch.chunk), batch.chunk_size) for each in own]
        uniform = batch.integers("uniform negatives", self.num_uniform, self.context.num_entities)
        entity = torch.cat([*parts, uniform], dim=1)
        known = self.context.known.contains(batch, entity)
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """In expectation over the order of positives: their share of train, mixed with the uniform ones."""
        others = (batch.chunk_size - 1) * (2 if self.slots == Slots.BOTH else 1)
        in_batch = others / (others + self.num_uniform)
        row = torch.arange(len(entity), device=entity.device)
        tail = row >= batch.head_chunks * (len(entity) // max(len(batch.chunk), 1))
        share = self.share[tail.long()[:, None], entity]
        log_q = (in_batch * share + (1 - in_batch) / self.context.num_entities).log()
        return per_positive(log_q, len(batch.head))
