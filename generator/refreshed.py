"""Samplers that draw from something made of the trained model's rows, and made again now and then."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from embedding.model import KGEModel
from generator.sampler import NegativeSampler, SamplerContext, require_at_least
from graph.batch import Batch


class RefreshedSampler(NegativeSampler):
    """Makes something of the trained model's rows before the first step of a stage, and again after every `period`.

    Between two refreshes the rows move on and what was made stays, which a checkpoint therefore holds.
    """

    def __init__(self, context: SamplerContext, *, key: str, period: int) -> None:
        super().__init__(context)
        require_at_least(f"generator.{key}", period, 0)
        self.period = period
        self._made_at: int | None = None

    @property
    def player(self) -> KGEModel:
        """The model that is trained on the negatives."""
        assert self.context.player is not None
        return self.context.player

    @abstractmethod
    def refresh(self, batch: Batch) -> None:
        """Makes it of the player's rows as they are. Collective.

        Args:
            batch: the one that is about to be proposed for; only what ranks have in common may be used.
        """

    def made(self) -> dict[str, Tensor]:
        """What `refresh` made, equal on all ranks, beside `keyed_rows`."""
        return {}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """Takes what `made` gave."""

    def keep_fresh(self, batch: Batch, now: int) -> None:
        """Refreshes if that is due. Collective.

        Args:
            now: the step or the epoch of the batch, whichever the period counts.
        """
        if self._made_at is None or (self.period and now >= self._made_at + self.period):
            self.refresh(batch)
            self._made_at = now

    def start_stage(self) -> None:
        """What was made of a model before its training is of no use."""
        self._made_at = None

    def state(self) -> dict[str, Tensor]:
        """What was made, and when."""
        return {} if self._made_at is None else {"made_at": torch.tensor([self._made_at]), **self.made()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""
        self._made_at = int(state["made_at"]) if state else None
        if state:
            self.load_made(state)
