"""Measures the cost of a run: scored candidates, time and memory."""

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
    """Logs candidates scored by training steps of all stages so far, seconds of these steps, and peak memory in MB.

    Validation and other observers are not counted.
    """

    def __init__(self, runtime: Runtime, models: Iterable[KGEModel]) -> None:
        self.runtime = runtime
        self._scored = ScoredCandidates(models)
        self._candidates = 0
        """Candidates scored on all ranks, up to the last time that ranks were added up."""
        self._own = 0
        """Candidates scored on this rank since then."""
        self._seconds: list[float] = []
        """Seconds of each step since the last measurement."""

    def before_step(self) -> None:
        """Starts counting at 0."""
        self._scored.count = 0

    def after_step(self, seconds: float) -> None:
        """Adds the step's candidates and its seconds."""
        self._own += self._scored.count
        self._seconds.append(seconds)

    def measure(self, stage: Stage, cursor: Cursor) -> dict[str, float | int]:
        """The metrics cost/candidates, cost/seconds, cost/peak_mb (the largest of all ranks) and cost/step_seconds.

        The last is the median time of the steps since the last call. Collective.
        """
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
        """The number of scored candidates of all ranks. Collective."""
        return {_SCORED: self._add_up()}

    def load_state(self, manifest: Mapping[str, Any]) -> None:
        """Restores the number of scored candidates; raises InputError if the saved run did not count them."""
        if _SCORED not in manifest:
            raise InputError("quality: the run that is resumed did not count what it scored; resume it without quality")
        self._candidates, self._own = int(manifest[_SCORED]), 0
