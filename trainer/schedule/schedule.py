"""What a learning-rate schedule is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from graph.errors import InputError


class Schedule(ABC):
    """Says by what factor the learning rates of an optimiser are multiplied, step by step.

    The factor depends on how far the stage is and on its validations alone, so it is the same on every rank and after
    a resume.

    Args:
        warm_up: epochs over which the factor rises linearly, from nearly 0, before the schedule's own value holds;
            0 for none.
    """

    def __init__(self, *, warm_up: float) -> None:
        if not 0 <= warm_up < float("inf"):
            raise InputError(f"schedule.warm_up must be at least 0 epochs, got {warm_up}")
        self.warm_up = warm_up

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor of the step that begins at `epoch`, counted from 0 with fractions, of a stage of `epochs`."""
        rising = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        # Never 0: a first step of size 0 would be a step for nothing.
        return max(rising, 1e-3) * self._factor(epoch, epochs)

    @abstractmethod
    def _factor(self, epoch: float, epochs: int) -> float:
        """The same without warm-up."""

    def start_stage(self) -> None:
        """Forgets the validations of an earlier stage or run."""

    def validated(self, metric: float) -> None:
        """Takes note of a validation, whose metric is better the higher it is."""

    def state(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
