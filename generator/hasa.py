"""HaSa (Zhang et al., HaSa: hardness and structure-aware contrastive knowledge graph embedding, WWW 2024, arXiv
2305.10563): the hardest negatives, plus some that may be facts missing from train. Made for `loss=hasa`."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from embedding.preferred import preferred_entities
from generator.distinct_draws import LAST, repeated
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.two_hops import TwoHops
from kernels.largest import largest

_WALKS = 4
"""Random walks tried for each suspected negative; the first whose end is allowed gives it."""


class HaSaSampler(NegativeSampler):
    """Takes the entities of highest score that make no train fact, and adds some near the kept entity (HaSa, 2024).

    An entity at most two steps from the kept entity in the undirected train graph is *suspected*: with it, the triple
    may be a fact that is missing from train. `Negatives.suspected` marks these, also among the hard negatives.
    Suspected negatives are drawn by random walks of one or two steps that end at no train fact, so an entity that many
    paths lead to is more likely. If four walks fail, a uniform entity is drawn, and marked only if it is near too.

    The authors' code has two index errors. It takes most queries' three hard negatives from another query, and it gives
    its loss the width of a vector as the number of negatives. Here each query has its own negatives, and the loss
    counts them.

    `propose` returns entities [B, N] with N = num_hard + num_suspected. With bank_size=null a step computes B x E
    scores in float64, and every rank looks up the whole table. Otherwise it computes B x bank_size scores.

    Args:
        num_hard: negatives of highest score for each positive; below the number of entities.
        num_suspected: negatives near the kept entity for each positive; at least 0.
        bank_size: take the hardest from this many uniform candidates for each chunk; null: from all entities.
    """

    bounded_by_entities: ClassVar[Mapping[str, int]] = {"num_hard": 1}

    def __init__(self, context: SamplerContext, *, num_hard: int, num_suspected: int, bank_size: int | None) -> None:
        super().__init__(context)
        require_at_least("generator.num_hard", num_hard, 1)
        require_at_least("generator.num_suspected", num_suspected, 0)
        if num_hard >= context.num_entities:
            raise InputError(
                f"generator.num_hard must be below the graph's {context.num_entities} entities, got {num_hard}"
            )
        if bank_size is not None:
            require_at_least("generator.bank_size", bank_size, num_hard)
        self.num_hard = num_hard
        self.num_suspected = num_suspected
        self.bank_size = bank_size
        self.near = TwoHops(context.train, context.num_entities, context.site.device)

    @property
    def suspects(self) -> bool:
        """Always true."""
        return True

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Finds the hardest entities and draws suspected ones; see `NegativeSampler.propose`. Collective."""
        hard = self._of_table(batch) if self.bank_size is None else self._of_bank(batch, score, self.bank_size)
        entity = torch.cat([hard, self._suspects(batch)], dim=1)
        known = self.context.known.contains(batch, entity)
        self._suspected = self.near.contains(batch.anchor, entity) & ~known
        return Negatives(entity, known=known, suspected=self._suspected)

    def _of_table(self, batch: Batch) -> Int64[Tensor, "B H"]:
        assert self.context.player is not None
        known = self.context.known
        return preferred_entities(self.context.player, batch, self.num_hard, lambda score, _: score, known)

    def _of_bank(self, batch: Batch, score: ScoreCandidates, size: int) -> Int64[Tensor, "B H"]:
        bank = batch.integers("bank", size, self.context.num_entities)
        value = score(bank).double()
        chunk = torch.arange(len(bank), device=bank.device).repeat_interleave(batch.chunk_size)
        value = value.masked_fill(repeated(bank)[chunk], LAST)
        value = value.masked_fill(self.context.known.contains(batch, bank), 2 * LAST)
        return bank[chunk].gather(1, largest(value, self.num_hard))

    def _suspects(self, batch: Batch) -> Int64[Tensor, "B S"]:
        count, positives = self.num_suspected, len(batch.head)
        uniform = batch.uniform_per_positive("walks", count * _WALKS * 3).view(positives, count * _WALKS, 3)
        end = self.near.step(batch.anchor[:, None].expand(uniform.shape[:2]), uniform[:, :, 0])
        end = torch.where(uniform[:, :, 1] < 1 / 2, self.near.step(end, uniform[:, :, 2]), end)
        good = ~self.context.known.contains(batch, end) & (end != batch.anchor[:, None])
        # The last column is a uniform entity, taken if no walk ended at an allowed entity.
        stand_in = batch.integers_per_positive("stand-ins for suspects", count, self.context.num_entities)
        end = torch.cat([end.view(positives, count, _WALKS), stand_in[:, :, None]], dim=2)
        return end.gather(2, _first(good.view(positives, count, _WALKS))[:, :, None])[:, :, 0]

    def metrics(self) -> dict[str, Float64[Tensor, " B"]]:
        """The share of suspected negatives, among the hardest and among all."""
        suspected = self._suspected.double()
        return {
            "generator/suspected_of_hard": suspected[:, : self.num_hard].mean(1),
            "generator/suspected": suspected.mean(1),
        }


def _first(good: Bool[Tensor, "B S W"]) -> Int64[Tensor, "B S"]:
    """The index of the first true value in the last dimension; W if all are false."""
    some = torch.cat([good, torch.ones_like(good[:, :, :1])], dim=2)
    return some.long().argmax(2)
