"""Observers measure more of a run than its loss and its validation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from trainer.stage import Cursor, Stage


class Observer(ABC):
    """Measures a run without changing it: the parameters are the same with and without observers.

    All ranks have the same observers and call them at the same steps, so their methods may be collective.
    """

    def before_step(self) -> None:
        """Called right before each training step."""

    def after_step(self, seconds: float) -> None:
        """Called right after each training step; `seconds` is its time on this rank."""

    @abstractmethod
    def measure(self, stage: Stage, cursor: Cursor) -> Mapping[str, float | int]:
        """Metrics by name, to be logged. Called before a stage's first step and after each validation. Collective."""

    def state(self) -> dict[str, Any]:
        """JSON values for a checkpoint's manifest, equal on all ranks, to restore when a run is resumed. Collective."""
        return {}

    def load_state(self, manifest: Mapping[str, Any]) -> None:
        """Restores the values that `state` returned, from a checkpoint's manifest."""
