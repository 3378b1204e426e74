"""What a run costs: candidates scored, time and memory."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import torch

from embedding.model import KGEModel
from graph.errors import InputError
from trainer.observer import Observer
from trainer.peak import device_peak_mb
from trainer.runtime import Runtime
from trainer.scored import ScoredCandidates
from trainer.stage import Cursor, Stage

_SCORED = "scored_candidates"


class Cost(Observer):
    """Candidates scored by training steps of all stages so far, seconds of these steps, and peak memory.

    Validation and what other observers do cost nothing here.
    """

    def __init__(self, runtime: Runtime, models: Iterable[KGEModel]) -> None:
        self.runtime = runtime
        self._scored = ScoredCandidates(models)
        self._candidates = 0
        """Of all ranks, when they were last added up."""
        self._own = 0
        """Of this rank since then."""
        self._seconds: list[float] = []
        """Of each step since the last measurement."""

    def before_step(self) -> None:
        """See `Observer.before_step`."""
        self._scored.count = 0

    def after_step(self, seconds: float) -> None:
        """See `Observer.after_step`."""
        self._own += self._scored.count
        self._seconds.append(seconds)

    def measure(self, stage: Stage, cursor: Cursor) -> dict[str, float | int]:
        """See `Observer.measure`; the median of a step is over the steps since the last measurement."""
        peak = torch.zeros(self.runtime.world_size, dtype=torch.float64, device=self.runtime.device)
        peak[self.runtime.rank] = device_peak_mb(self.runtime.device)
        cost: dict[str, float | int] = {
            "cost/candidates": self._add_up(),
            "cost/seconds": cursor.seconds,
            "cost/peak_mb": float(self.runtime.add(peak).max()),
        }
        if self._seconds:
            cost["cost/step_seconds"] = median(self._seconds)
        self._seconds = []
        return cost

    def _add_up(self) -> int:
        own = torch.tensor(self._own, device=self.runtime.device)
        self._candidates += int(self.runtime.add(own))
        self._own = 0
        return self._candidates

    def state(self) -> dict[str, Any]:
        """The count."""
        return {_SCORED: self._add_up()}

    def load_state(self, manifest: Mapping[str, Any]) -> None:
        """Takes what `state` gave."""
        if _SCORED not in manifest:
            raise InputError("quality: the run that is resumed did not count what it scored; resume it without quality")
        self._candidates, self._own = int(manifest[_SCORED]), 0
