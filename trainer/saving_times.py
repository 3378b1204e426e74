"""When a run saves beside validations: by time, so that a large table is not saved every few seconds."""

from collections.abc import Sequence

from graph.errors import InputError
from trainer.runtime import Runtime
from trainer.saver import Saver

LEAST_SHARE = 10
"""A checkpoint that took t seconds is followed by at least so many times t without one."""


class SavingTimes:
    """Whether to stop, to save, or to publish what was saved, decided alike on all ranks.

    Signals, clocks and disks differ between ranks. So each rank votes, mostly in the sum that every step makes over the
    ranks anyway, and all ranks go by the sums: see `GlobalMeans.of_step`. Times decide only when a checkpoint is
    written, and change nothing of the training.

    Args:
        minutes: between the end of one checkpoint and the next; 0: only after validations. It is more if a checkpoint
            took more than a tenth of it.
    Raises:
        InputError: `minutes` is negative or not finite.
    """

    def __init__(self, runtime: Runtime, saver: Saver, *, minutes: float) -> None:
        if not 0 <= minutes < float("inf"):
            raise InputError(f"trainer.checkpoint_minutes must be at least 0 and finite, got {minutes}")
        self.runtime = runtime
        self.saver = saver
        self.minutes = minutes
        self.asked_to_stop = False
        """Whether a signal had reached any rank at the last step."""
        self.is_due = False
        """Whether a checkpoint was due at the last step, by the clock of rank 0."""
        self.is_written = False
        """Whether all ranks had written the checkpoint in the background at the last step, or one of them failed."""

    def votes(self) -> list[float]:
        """What this rank has to say at a step; the sums of all ranks go to `count`."""
        least = max(60 * self.minutes, LEAST_SHARE * self.saver.seconds)
        since = self.saver.seconds_since_last()
        is_due = self.runtime.is_first and self.minutes > 0 and not self.saver.is_pending and since >= least
        # One rank that failed outweighs all that still write, so that the run ends now and not after them.
        unwritten = -float(self.runtime.world_size) if self.saver.has_failed else float(self.saver.is_writing)
        return [float(self.runtime.stop_signal is not None), float(is_due), unwritten]

    def count(self, sums: Sequence[float] | None) -> None:
        """Takes the sums of the ranks' votes; None if they have not voted in this step."""
        signalled, due, unwritten = (0.0, 0.0, 1.0) if sums is None else sums
        self.asked_to_stop, self.is_due = signalled > 0, due > 0
        self.is_written = self.saver.is_pending and unwritten <= 0
