"""Base of samplers that compute something from the trained model's rows (lists, clusters, ...) at intervals."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from embedding.model import KGEModel
from generator.sampler import NegativeSampler, SamplerContext, require_at_least
from graph.batch import Batch


class RefreshedSampler(NegativeSampler):
    """Calls `refresh` before the first step of a stage, and again after every `period` steps or epochs.

    Between two refreshes the model's rows change, but what `refresh` computed does not. So checkpoints save it.

    Args:
        key: the option's name, for the error.
        period: steps or epochs from one refresh to the next; 0: refresh only when a stage starts.
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
        """Computes what the sampler draws from, from the current rows of `player`. Collective.

        Args:
            batch: the batch of the coming `propose`. Use only what is equal on all ranks: seed, epoch, step.
        """

    def made(self) -> dict[str, Tensor]:
        """What `refresh` computed and a checkpoint must save, beside `keyed_rows`. Equal on all ranks."""
        return {}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """Restores what `made` returned; raises ValueError if that is of another make."""

    def is_due(self, now: int) -> bool:
        """Whether `keep_fresh` would call `refresh`."""
        return self._made_at is None or (self.period > 0 and now >= self._made_at + self.period)

    def keep_fresh(self, batch: Batch, now: int) -> None:
        """Calls `refresh` if it is due. Collective.

        Args:
            now: the step or the epoch of the batch, whichever `period` counts.
        """
        if self.is_due(now):
            self.refresh(batch)
            self._made_at = now

    def start_stage(self) -> None:
        """Makes the next `keep_fresh` call `refresh`: what was computed from an older model is out of date."""
        self._made_at = None

    def state(self) -> dict[str, Tensor]:
        """What `refresh` computed, and the step or epoch of that; empty before the first refresh."""
        return {} if self._made_at is None else {"made_at": torch.tensor([self._made_at]), **self.made()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self._made_at = int(state["made_at"]) if state else None
        if state:
            self.load_made(state)


def saved_entities(made: Mapping[str, Tensor], name: str, own: Tensor, num_entities: int) -> Tensor:
    """A tensor of a checkpoint that holds entities, on this run's device and in its type.

    Args:
        own: the tensor that it replaces.
    Raises:
        ValueError: it has another shape, or holds a number that is no entity.
    """
    saved = made[name]
    if saved.shape != own.shape:
        raise ValueError(f"'{name}' must have the shape {list(own.shape)}, got {list(saved.shape)}")
    if saved.dtype != torch.int32:
        raise ValueError(f"'{name}' must be of int32, got {saved.dtype}")
    outside = saved[(saved < 0) | (saved >= num_entities)]
    if len(outside):
        raise ValueError(f"'{name}' must hold entities from 0 to {num_entities - 1}, got {int(outside[0])}")
    return saved.to(own)
