"""The exponential moving average of weights (Kingma and Ba, Adam, ICLR 2015, section 7.2: temporal averaging)."""

from collections.abc import Mapping
from typing import Any

from embedding.model import KGEModel
from graph.errors import InputError
from trainer.averaging.average import Average, Rank
from trainer.averaging.weights import Weights
from trainer.validation import Ranking


class EMA(Average):
    """The mean of the model's weights at every K-th step, weighted less the older they are.

    Weights from t steps ago have decay^t of the weight of the newest, and all add up to 1. So it is debiased, as Adam's
    moments are: the n-th update moves the average by (1 - d) / (1 - d^n) of the way to the model, with d = decay^K. The
    first update copies the model, and initial values do not count more than later ones.

    Validation ranks the average alone, which takes no longer than without an average.

    Args:
        decay: how much less the weights of the step before count.
        every: K, the steps between two updates. An update reads and writes the whole table, as few steps do.
        start: the share of the stage before the first update; until then the model itself is validated.
    """

    def __init__(self, *, decay: float, every: int, start: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"average.decay must be above 0 and below 1, got {decay}")
        if every < 1:
            raise InputError(f"average.every must be at least 1, got {every}")
        if not 0 <= start < 1:
            raise InputError(f"average.start must be in [0, 1), got {start}")
        self.decay, self.every, self.start = decay, every, start
        self.start_stage()

    @property
    def weights(self) -> Weights | None:
        """The average; None before the first update."""
        return self._weights

    def start_stage(self) -> None:
        """Starts without an average."""
        self._weights: Weights | None = None
        self._updates = 0

    def check_stage(self, steps: int, *, validated: bool) -> None:
        """Raises InputError if no step of the stage would update the average."""
        if steps and not self._is_due(max(steps // self.every, 1) * self.every, steps):
            raise InputError(
                f"average.every={self.every} with average.start={self.start} updates the average at none of the last "
                f"stage's {steps} steps; take a smaller average.every or average.start, or more epochs"
            )

    def _is_due(self, step: int, steps: int) -> bool:
        begun = self._updates > 0 or step >= self.start * steps
        return begun and step % self.every == 0 and step <= steps

    def after_step(self, model: KGEModel, step: int, steps: int) -> None:
        """Updates the average after every K-th step."""
        if not self._is_due(step, steps):
            return
        self._updates += 1
        if self._weights is None:
            self._weights = Weights.of(model)
        else:
            kept = self.decay**self.every
            self._weights.move_towards(model, (1 - kept) / (1 - kept**self._updates))

    def validate(self, model: KGEModel, rank: Rank, *, regular: bool) -> Ranking:
        """Ranks the average, or the model before there is one."""
        if self._weights is None:
            return rank()
        with self._weights.in_place_in(model):
            return rank()

    def state(self) -> dict[str, float | int]:
        """The number of updates."""
        return {"updates": self._updates}

    def load_state(self, model: KGEModel, state: Mapping[str, Any]) -> None:
        """Restores the number of updates."""
        self.start_stage()
        updates = state.get("updates")
        if type(updates) is not int or updates < 0:
            raise InputError(f"resume: average.updates of the checkpoint must be a count, got {updates}")
        self._updates = updates
        self._weights = Weights.of(model) if updates else None
