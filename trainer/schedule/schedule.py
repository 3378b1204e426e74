"""The interface of learning-rate schedules."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from graph.errors import InputError


class Schedule(ABC):
    """Gives the factor that multiplies the learning rates of an optimiser at each step.

    The factor depends only on the progress of the stage and on its validations. So it is the same on all ranks and
    after a resume.

    Args:
        warm_up: epochs over which the factor rises linearly from nearly 0 to the schedule's value; 0: no warm-up.
    """

    def __init__(self, *, warm_up: float) -> None:
        if not 0 <= warm_up < float("inf"):
            raise InputError(f"schedule.warm_up must be at least 0 epochs, got {warm_up}")
        self.warm_up = warm_up

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor of the step that begins at `epoch`, counted from 0 with fractions, of a stage of `epochs`."""
        rising = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        # Never 0, because a step with learning rate 0 would be wasted.
        return max(rising, 1e-3) * self._factor(epoch, epochs)

    @abstractmethod
    def _factor(self, epoch: float, epochs: int) -> float:
        """The factor without the warm-up."""

    def start_stage(self) -> None:
        """Forgets the validations of an earlier stage or run."""

    def validated(self, metric: float) -> None:
        """Called after each regular validation; a higher metric is better."""

    def state(self) -> dict[str, Any]:
        """JSON values to restore when a run is resumed."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the values that `state` returned."""
