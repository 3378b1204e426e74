"""A learning rate that falls at fixed epochs."""

from collections.abc import Sequence

from graph.errors import InputError
from trainer.schedule.schedule import Schedule


class Step(Schedule):
    """Multiplies the learning rate by `decay` at each milestone.

    Args:
        milestones: shares of the stage, such as 0.5 and 0.75 for a half and three quarters of its epochs.
        decay: the factor at each of them.
    """

    def __init__(self, *, warm_up: float, milestones: Sequence[float], decay: float) -> None:
        super().__init__(warm_up=warm_up)
        for share in milestones:
            if not 0 < share < 1:
                raise InputError(f"schedule.milestones must be shares of the stage between 0 and 1, got {share}")
        if not 0 < decay <= 1:
            raise InputError(f"schedule.decay must be above 0 and at most 1, got {decay}")
        self.milestones = tuple(milestones)
        self.decay = decay

    def _factor(self, epoch: float, epochs: int) -> float:
        return self.decay ** sum(epoch >= share * epochs for share in self.milestones)
