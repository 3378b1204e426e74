"""Base of samplers that draw from a short list of entities, which is made from the trained model."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.refreshed import RefreshedSampler
from generator.sampler import SamplerContext, ScoreCandidates, require_at_least, unchanged
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids


class ListedSampler(RefreshedSampler):
    """Draws uniformly, with replacement, from a list that each positive has. Some draws come from all entities instead.

    `propose` returns entities [B, N]: each positive has its own, whatever the chunk_size. So their scores can't be
    computed as one matrix product for a chunk, and cost more than shared ones.

    Args:
        num_negatives: independent draws for each positive.
        list_size: entities in a list; must be below the number of entities.
        uniform_share: the probability that a draw is uniform over all entities, from 0 to 1. With 0 the target can't
            be drawn, because it is in no list, so `Negatives.proposal` is None.
        refresh_epochs: make the lists again after this many epochs; 0: make them once, when the stage starts.
        mask_known: leave negatives that are train facts out of the loss.
    """

    bounded_by_entities: ClassVar[Mapping[str, int]] = {"list_size": 1}

    def __init__(
        self,
        context: SamplerContext,
        *,
        num_negatives: int,
        list_size: int,
        uniform_share: float,
        refresh_epochs: int,
        mask_known: bool,
    ) -> None:
        super().__init__(context, key="refresh_epochs", period=refresh_epochs)
        require_at_least("generator.list_size", list_size, 1)
        expect_int32_ids("generator.list_size", context.num_entities)
        if list_size >= context.num_entities:
            raise InputError(
                f"generator.list_size must be below the graph's {context.num_entities} entities, got {list_size}"
            )
        if not 0 <= uniform_share <= 1:
            raise InputError(f"generator.uniform_share must be from 0 to 1, got {uniform_share}")
        self.num_negatives = num_negatives
        self.list_size = list_size
        self.uniform_share = uniform_share
        self.mask_known = mask_known
        self.check_options()

    def check_options(self) -> None:
        """Requires num_negatives >= 1."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)

    @property
    def knows_proposal(self) -> bool:
        """True if uniform_share is above 0."""
        return self.uniform_share > 0

    @abstractmethod
    def lists(self, batch: Batch) -> Int64[Tensor, "B k"]:
        """The list of each positive: k = list_size distinct entities, ascending, without its target. Collective."""

    def undo(self) -> Callable[[], object] | None:
        """See `NegativeSampler.undo`: only a step that refreshes the lists changes anything."""
        return unchanged

    def refreshes(self, batch: Batch) -> bool:
        """See `NegativeSampler.refreshes`."""
        return self.is_due(batch.epoch)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Makes the lists again if that is due, then draws; does not call `score`. Collective."""
        self.keep_fresh(batch, batch.epoch)
        self._lists, count = self.lists(batch), self.num_negatives
        entity = self._lists.gather(1, batch.integers_per_positive("places in the list", count, self.list_size))
        if self.uniform_share > 0:
            uniform = batch.integers_per_positive("uniform negatives", count, self.context.num_entities)
            chosen = batch.uniform_per_positive("uniform or listed", count) < self.uniform_share
            entity = torch.where(chosen, uniform, entity)
        known = self.context.known.contains(batch, entity) if self.mask_known else None
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"] | None:
        """See `NegativeSampler.log_q`."""
        if self.uniform_share == 0:
            return None
        entity = per_positive(entity, len(batch.head))
        place = torch.searchsorted(self._lists, entity).clamp(max=self.list_size - 1)
        listed = (self._lists.gather(1, place) == entity).double()
        uniform = self.uniform_share / self.context.num_entities
        return (uniform + (1 - self.uniform_share) / self.list_size * listed).log()
