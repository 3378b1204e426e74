"""The same learning rate throughout."""

from trainer.schedule.schedule import Schedule


class Constant(Schedule):
    """The factor is 1 after the warm-up."""

    def _factor(self, epoch: float, epochs: int) -> float:
        return 1.0
