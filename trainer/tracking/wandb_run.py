"""A run of wandb beside `metrics.jsonl`."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.pointer import trained_checkpoint
from trainer.stage import PRETRAINING
from trainer.tracking.tracker import Title, Tracker, Wanted
from trainer.validation import GROUPS, METRICS

log = logging.getLogger(__name__)


class WandbTracker(Tracker):
    """A wandb run beside `metrics.jsonl`; metrics appear in panels by group (`train/`, `generator/`, `valid/` ...).

    Metrics of a pre-training stage have its name in front, as in `pretrain_generator/valid/mrr`, so that they are not
    mixed with those of the last stage.

    wandb's environment variables (WANDB_MODE, WANDB_DIR, WANDB_ENTITY, WANDB_NAME ...) apply where no option is given.

    Args:
        project: wandb project.
        mode: "online" or "offline"; None for what WANDB_MODE or WANDB_DISABLED say, else online. Online without an
            account or network goes offline, and says so once.
        name: the name of the run; None for what WANDB_NAME says, else the names of its models, sampler and graph.
        group: groups runs; None for what WANDB_RUN_GROUP says, else the sweep that the run is part of.
        tags: more tags beside the names of its models, sampler and graph; with WANDB_TAGS, only those that it lists.
        artifact: at the end of a run, log the checkpoint that its result is of as an artifact of type "model".
        hardest_negatives: log a table of the hardest negatives by name, after validations of the last stage and at the
            end.
        predictions: at the end, log a table of the best answers to this many test triples; 0 for no table.
        plots: at the end, log the run's curves as images.
        export: at the end, log the trained model as NumPy arrays, as an artifact of type "embeddings".
        init_timeout: seconds to wait for the server before going offline.
    """

    def __init__(
        self,
        *,
        project: str,
        mode: str | None,
        name: str | None,
        group: str | None,
        tags: Sequence[str],
        artifact: bool,
        hardest_negatives: bool,
        predictions: int,
        plots: bool,
        export: bool,
        init_timeout: float,
    ) -> None:
        if mode not in ("online", "offline", None):
            raise InputError(f"trackers.wandb.mode must be online or offline, got {mode!r}")
        if init_timeout <= 0:
            raise InputError(f"trackers.wandb.init_timeout must be positive, got {init_timeout}")
        self.project = project
        self.mode = mode
        self.name = name
        self.group = group
        self.tags = tags
        self.artifact = artifact
        self.wanted = Wanted(hardest_negatives, predictions, plots, export)
        self.init_timeout = init_timeout

    def start(
        self, folder: Path, config: Mapping[str, Any], *, title: Title, run_id: str | None, from_step: int
    ) -> None:
        """Starts a wandb run, or continues the run `run_id`.

        Raises:
            InputError: an environment variable of wandb is empty or has a value that wandb refuses.
        """
        # Imported here: it takes a second that runs without it need not pay.
        import wandb
        from wandb.errors import CommError, UsageError

        _check_variables()
        self._folder = folder
        ours = {
            "WANDB_DIR": ("dir", folder),
            "WANDB_NAME": ("name", title.name),
            "WANDB_RUN_GROUP": ("group", title.group),
            "WANDB_JOB_TYPE": ("job_type", title.job_type),
            "WANDB_TAGS": ("tags", [*title.tags, *self.tags]),
            "WANDB_RESUME": ("resume", "allow"),
        }
        given = {"project": self.project, "name": self.name, "group": self.group, "id": run_id}
        options: dict[str, Any] = {"config": dict(config)}
        options |= {name: value for variable, (name, value) in ours.items() if variable not in os.environ}
        options |= {name: value for name, value in given.items() if value is not None}
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

    def show(
        self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path], *, step: int | None = None
    ) -> None:
        """Logs the table and the plots."""
        import wandb

        shown: dict[str, Any] = {} if step is None else {"trainer/step": step}
        if table:
            shown[name] = wandb.Table(columns=list(table[0]), data=[list(row.values()) for row in table])
        self._run.log(shown | {f"plots/{plot}": _as_media(path) for plot, path in plots.items()})

    def keep(self, kind: str, folder: Path) -> None:
        """Logs the files as an artifact of this type. wandb copies them first."""
        self._log_artifact(kind, folder, {})

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Writes the test metrics and the best step to the summary and ends the wandb run."""
        if result is not None:
            self._run.summary.update({key: result[key] for key in ("test", "best_step") if key in result})
            if self.artifact:
                self._log_checkpoint()
        offline = Path(self._run.dir).parent if self._run.offline and not self._run.disabled else None
        self._run.finish(exit_code=0 if result is not None else 1)
        if offline is not None:
            log.info("wandb kept this run offline; upload it with: %s", shlex.join(["wandb", "sync", str(offline)]))

    def _log_checkpoint(self) -> None:
        checkpoint = trained_checkpoint(self._folder)
        self._log_artifact("model", checkpoint, {"checkpoint": checkpoint.name})

    def _log_artifact(self, kind: str, folder: Path, metadata: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self._run.id}", type=kind, metadata=metadata)
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)


def _as_media(plot: Path) -> Any:
    """What wandb shows a plot as. Its images are of pixels only, so an SVG file becomes a page of its own."""
    import wandb

    return wandb.Html(plot.read_text(), inject=False) if plot.suffix == ".svg" else wandb.Image(str(plot))


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
