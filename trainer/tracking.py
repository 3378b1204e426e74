"""Trackers write metrics: to `metrics.jsonl` always, to wandb if chosen. Only rank 0 has trackers."""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.stage import PRETRAINING
from trainer.validation import GROUPS, METRICS

log = logging.getLogger(__name__)


class Tracker(ABC):
    """Writes the metrics of steps."""

    run_id: str | None = None
    """The tracker's id of this run. Checkpoints keep it, so that a resumed run continues the same track."""

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any], *, run_id: str | None, from_step: int) -> None:
        """Opens the track.

        Args:
            folder: the run folder.
            run_id: the id of the run that is resumed, if any.
            from_step: the step that the run starts or resumes at; metrics of later steps are discarded.
        """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes the metrics of a step; names have a group, as in `train/loss`."""

    def show(self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path]) -> None:
        """Takes a report: a table by rows, which have the same keys, and SVG files by name. Does nothing here."""

    @abstractmethod
    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the track; `result` is None if the run was stopped."""


class JsonLinesTracker(Tracker):
    """One JSON object a line in `metrics.jsonl`: step, epoch, stage, loss, then the others by their names."""

    def start(self, folder: Path, config: Mapping[str, Any], *, run_id: str | None, from_step: int) -> None:
        """Opens `metrics.jsonl`. Drops lines after `from_step`, which a run wrote after its last checkpoint."""
        path = folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines() if _step_of(line) <= from_step]
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(b"".join(line + b"\n" for line in kept))
            os.replace(temporary, path)
        self._file = path.open("a")

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes a line; raises InputError if the file cannot be written."""
        named = {"loss" if name == "train/loss" else name: value for name, value in metrics.items()}
        try:
            self._file.write(json.dumps({"step": step, **named}) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._file.name} can't be written: {error.strerror}") from error

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Closes the file."""
        self._file.close()


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for a line that is incomplete because the run died."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


class WandbTracker(Tracker):
    """A wandb run beside `metrics.jsonl`; metrics appear in panels by group (`train/`, `generator/`, `valid/` ...).

    Metrics of a pre-training stage have its name in front, as in `pretrain_generator/valid/mrr`, so that they are not
    mixed with those of the last stage.

    wandb's environment variables (WANDB_MODE, WANDB_DIR, WANDB_ENTITY, WANDB_NAME ...) apply where no option is given.

    Args:
        project: wandb project.
        mode: "online" or "offline"; None for what WANDB_MODE or WANDB_DISABLED say, else online. Online without an
            account or network goes offline, and says so once.
        group: groups runs, for example those of a sweep; None for what WANDB_RUN_GROUP says, else none.
        init_timeout: seconds to wait for the server before going offline.
    """

    def __init__(self, *, project: str, mode: str | None, group: str | None, init_timeout: float) -> None:
        if mode not in ("online", "offline", None):
            raise InputError(f"tracker.mode must be online or offline, got {mode!r}")
        if init_timeout <= 0:
            raise InputError(f"tracker.init_timeout must be positive, got {init_timeout}")
        self.project = project
        self.mode = mode
        self.group = group
        self.init_timeout = init_timeout

    def start(self, folder: Path, config: Mapping[str, Any], *, run_id: str | None, from_step: int) -> None:
        """Starts a wandb run, or continues the run `run_id`.

        Raises:
            InputError: an environment variable of wandb is empty or has a value that wandb refuses.
        """
        # Imported here: it takes a second that runs without it need not pay.
        import wandb
        from wandb.errors import CommError, UsageError

        _check_variables()
        given = {"project": self.project, "group": self.group, "id": run_id}
        ours = {"WANDB_DIR": ("dir", folder), "WANDB_NAME": ("name", folder.name), "WANDB_RESUME": ("resume", "allow")}
        options: dict[str, Any] = {"config": dict(config)}
        options |= {name: value for name, value in given.items() if value is not None}
        options |= {name: value for variable, (name, value) in ours.items() if variable not in os.environ}
        mode = self.mode or ("disabled" if _is_disabled() else None)
        settings = wandb.Settings(silent=True, console="off", init_timeout=self.init_timeout)
        try:
            self._run = wandb.init(mode=mode, settings=settings, **options)  # pyright: ignore[reportArgumentType]
        except (UsageError, CommError, ValueError) as error:  # pydantic's, of a variable, is a ValueError
            reason = _in_one_line(error)
            if not isinstance(error, CommError) and "key" not in reason:
                raise InputError(f"tracker=wandb: wandb refuses its variables: {reason}") from error
            log.warning("wandb can't go online (%s): this run is tracked offline; upload it with `wandb sync`", reason)
            self._run = wandb.init(mode="offline", settings=settings, **options)
        self.run_id = None if self._run.disabled else self._run.id
        self._stages: set[str] = set()
        self._run.define_metric("trainer/step")
        self._run.define_metric("*", step_metric="trainer/step")
        self._keep_best("")

    def _keep_best(self, prefix: str) -> None:
        """Makes wandb's summary show the best validation of a stage, not the last."""
        for group, side, metric in product(GROUPS, ("", "both/"), METRICS):
            name = f"{prefix}{group}/{side}{metric}"
            self._run.define_metric(name, step_metric="trainer/step", summary="max")

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Logs the metrics; those of a pre-training stage have its name in front."""
        stage = str(metrics.get("stage", ""))
        prefix = f"{stage}/" if stage.startswith(PRETRAINING) else ""
        if stage not in self._stages:
            self._stages.add(stage)
            self._keep_best(prefix)
        named = {name if name == "stage" else f"{prefix}{name}": value for name, value in metrics.items()}
        # The step is a metric and the x axis, so that a run that goes back to a checkpoint may log a step again.
        self._run.log({"trainer/step": step, **named})

    def show(self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path]) -> None:
        """Logs the table and the plots."""
        import wandb

        rows = wandb.Table(columns=list(table[0]), data=[list(row.values()) for row in table])
        # wandb's images are pixels; an SVG is shown as a small page.
        drawn = {f"plots/{plot}": wandb.Html(path.read_text(), data_is_not_path=True) for plot, path in plots.items()}
        self._run.log({name: rows, **drawn})

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Writes the test metrics and the best step to the summary and ends the wandb run."""
        if result is not None:
            self._run.summary.update({key: result[key] for key in ("test", "best_step") if key in result})
        self._run.finish(exit_code=0 if result is not None else 1)


def _check_variables() -> None:
    for name, value in os.environ.items():
        # An empty key is no key: the run is tracked offline.
        if name.startswith("WANDB_") and name != "WANDB_API_KEY" and not value.strip():
            raise InputError(f"tracker=wandb: {name} is set and empty; unset it, or give it a value")


def _is_disabled() -> bool:
    """Whether WANDB_DISABLED is set. wandb itself no longer reads it, but many scripts set it."""
    return os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split("[type=")[0].split())[:300]
