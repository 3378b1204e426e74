"""A learning rate that falls along half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts)."""

import math

from graph.errors import InputError
from trainer.schedule.schedule import Schedule


class Cosine(Schedule):
    """The factor falls from 1 at the start of the stage to `last` at its end.

    Args:
        last: the factor at the end.
    """

    def __init__(self, *, warm_up: float, last: float) -> None:
        super().__init__(warm_up=warm_up)
        if not 0 <= last <= 1:
            raise InputError(f"schedule.last must be in [0, 1], got {last}")
        self.last = last

    def _factor(self, epoch: float, epochs: int) -> float:
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * min(epoch / epochs, 1.0))) / 2
