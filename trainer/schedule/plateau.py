"""A learning rate that falls when the validation metric stops improving: torch's ReduceLROnPlateau."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from graph.errors import InputError
from trainer.schedule.schedule import Schedule

_STATE = ("best", "num_bad_epochs", "last_epoch")


class Plateau(Schedule):
    """Multiplies the learning rate by `decay` after more than `patience` validations without a better metric.

    Args:
        decay: what the factor is multiplied by each time.
        patience: validations without a better metric before the factor falls.
        threshold: a metric is better if it is above the best * (1 + threshold).
        least: the lowest factor.
    """

    def __init__(self, *, warm_up: float, decay: float, patience: int, threshold: float, least: float) -> None:
        super().__init__(warm_up=warm_up)
        if not 0 < decay < 1:
            raise InputError(f"schedule.decay must be above 0 and below 1, got {decay}")
        if patience < 0:
            raise InputError(f"schedule.patience must be at least 0, got {patience}")
        if not 0 <= threshold < 1:
            raise InputError(f"schedule.threshold must be in [0, 1), got {threshold}")
        if not 0 <= least <= 1:
            raise InputError(f"schedule.least must be in [0, 1], got {least}")
        self.decay, self.patience, self.threshold, self.least = decay, patience, threshold, least
        self.start_stage()

    def start_stage(self) -> None:
        """Starts at factor 1 with no validations."""
        # torch's scheduler changes the learning rate of an optimiser. This optimiser only holds our factor as its rate.
        self._holder = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        options = {"factor": self.decay, "patience": self.patience, "threshold": self.threshold, "min_lr": self.least}
        self._scheduler = ReduceLROnPlateau(self._holder, mode="max", eps=0.0, **options)

    def _factor(self, epoch: float, epochs: int) -> float:
        return float(self._holder.param_groups[0]["lr"])

    def validated(self, metric: float) -> None:
        """Lowers the factor if the metric has not improved for more than `patience` validations."""
        self._scheduler.step(metric)

    def state(self) -> dict[str, Any]:
        """The best metric, the number of validations without a better one, and the factor."""
        kept = {name: getattr(self._scheduler, name) for name in _STATE}
        # JSON has no infinity, which is what `best` is before the first validation.
        return {**kept, "best": max(kept["best"], -1.0), "factor": self._factor(0.0, 1)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores `state`; raises InputError if it is of another schedule."""
        missing = [name for name in (*_STATE, "factor") if name not in state]
        if missing:
            raise InputError(f"resume: the checkpoint's schedule has no {missing[0]}: it is of a run with another one")
        self.start_stage()
        self._scheduler.load_state_dict({name: state[name] for name in _STATE})
        self._holder.param_groups[0]["lr"] = state["factor"]
