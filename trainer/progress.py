"""The progress bar of a stage: rate, time left, loss, reward and the best validation. Shown on a terminal only."""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Progress:
    """A bar that counts positives, shown on a terminal only. Log lines appear above it.

    Args:
        stage: the name of the stage, shown beside the bar.
        total: positives of the stage.
        done: positives trained before the run was resumed; 0 for a new run.
        shown: False: never show the bar, as on ranks other than 0.
    """

    def __init__(self, stage: str, total: int, done: int, *, shown: bool) -> None:
        # disable=None: tqdm checks whether the output is a terminal.
        self._bar = tqdm(
            total=total, initial=done, desc=stage, unit="triple", unit_scale=True, disable=None if shown else True
        )
        self._fields: dict[str, str] = {}

    def advance(self, positives: int, **fields: float | None) -> None:
        """Adds positives and sets the fields shown beside the bar; None leaves a field as it is."""
        if self._bar.disable:
            return
        self._fields |= {name: f"{value:.4g}" for name, value in fields.items() if value is not None}
        self._bar.set_postfix(self._fields, refresh=False)
        self._bar.update(positives)

    def __enter__(self) -> "Progress":
        self._redirection: AbstractContextManager[None] = (
            nullcontext() if self._bar.disable else logging_redirect_tqdm()
        )
        self._redirection.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._redirection.__exit__(kind, error, traceback)
        self._bar.close()
