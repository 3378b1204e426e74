"""The interface of trackers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Title:
    """What a run is called where many runs are shown together."""

    name: str
    group: str | None
    """The sweep that the run is part of, if any."""
    job_type: str
    """The command: train or scorecard."""
    tags: tuple[str, ...]


class Tracker(ABC):
    """Writes the metrics of steps."""

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

    def show(self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path]) -> None:
        """Takes a report: a table by rows, which have the same keys, and plots (SVG or PNG files) by name."""

    @abstractmethod
    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the track; `result` is None if the run was stopped."""
