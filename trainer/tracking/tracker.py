"""The interface of trackers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.errors import InputError

MOST_PREDICTIONS = 500
"""Ten answers for each side of so many triples are 10,000 rows, the most that wandb shows of a table."""


@dataclass(frozen=True)
class Title:
    """What a run is called where many runs are shown together."""

    name: str
    group: str | None
    """The sweep that the run is part of, if any."""
    job_type: str
    """The command: train or scorecard."""
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What a tracker takes besides metrics. What no tracker of a run wants is not made, for it takes time.

    Raises:
        InputError: `predictions` is below 0 or above `MOST_PREDICTIONS`.
    """

    hardest_negatives: bool = False
    """A table, after each validation of the last stage and at the end."""
    predictions: int = 0
    """At the end, a table of the best answers to this many test triples, or valid ones if there is no test split. If
    trackers want different numbers, all get the largest."""
    plots: bool = False
    """At the end, PNG files of the run's curves."""
    export: bool = False
    """At the end, a folder with the trained model as NumPy arrays."""

    def __post_init__(self) -> None:
        if not 0 <= self.predictions <= MOST_PREDICTIONS:
            raise InputError(f"predictions must be from 0 to {MOST_PREDICTIONS}, got {self.predictions}")


class Tracker(ABC):
    """Writes the metrics of steps."""

    wanted = Wanted()
    """What it takes besides metrics. Only what it wants is passed to `show` and `keep`."""
    run_id: str | None = None
    """The tracker's id of this run. Checkpoints keep it, so that a resumed run continues the same track."""

    @abstractmethod
    def start(
        self, folder: Path, config: Mapping[str, Any], *, title: Title, run_id: str | None, from_step: int
    ) -> None:
        """Opens the track.

        Args:
            folder: the run folder.
            config: all options of the run.
            run_id: the id of the run that is resumed, if any.
            from_step: the step that the run starts or resumes at; metrics of later steps are discarded.
        """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes the metrics of a step; names have a group, as in `train/loss`."""

    def show(
        self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path], *, step: int | None = None
    ) -> None:
        """Takes a report.

        Args:
            table: rows, which have the same keys; there may be none.
            plots: SVG or PNG files by name. They may be gone after the call.
            step: the step that it is of; None if it is of no step.
        """

    def keep(self, kind: str, folder: Path) -> None:
        """Takes the files of a folder to keep them with the run. They may be gone after the call.

        Args:
            kind: what they are, such as "embeddings".
        """

    @abstractmethod
    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the track; `result` is None if the run was stopped."""
