"""What may be watched of a run beside its loss and its ranks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from trainer.stage import Cursor, Stage


class Observer(ABC):
    """Watches a run and changes nothing of it: a run that is watched ends with the same parameters.

    Every rank has the same observers and calls them at the same moments, so what they do may be collective.
    """

    def before_step(self) -> None:
        """Called right before each training step."""

    def after_step(self, seconds: float) -> None:
        """Called right after each training step, which took so long on this rank."""

    @abstractmethod
    def measure(self, stage: Stage, cursor: Cursor) -> Mapping[str, float | int]:
        """Metrics to log, by name; called before a stage's first step and after each validation. Collective."""

    def state(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON values for a checkpoint's manifest; equal on all ranks. Collective."""
        return {}

    def load_state(self, manifest: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
