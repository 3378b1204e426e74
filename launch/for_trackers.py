"""Makes what the trackers of a run want besides metrics: tables by name, images of its curves, and an export."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from answers.answered import ask_again
from answers.completions import Completions
from exporting import npy
from exporting.description import write_description
from exporting.trained_model import TrainedModel
from graph.errors import InputError
from graph.slots import Slots
from launch.built_run import Run
from launch.hardest import HardestNegatives
from launch.opened_model import open_model
from reporting.hard_negatives import as_rows
from reporting.prediction_rows import ANSWERS, prediction_rows, sampled_split
from reporting.run_curves import by_stage, draw_images
from reporting.run_files import read_metrics
from trainer.loop import Trainer
from trainer.pointer import trained_checkpoint
from trainer.runtime import Runtime
from trainer.stage import Stage


class ForTrackers:
    """Shows the trackers, which only rank 0 has, what they want. Its methods are collective: all ranks make the tables.

    During training they are of the model as it is trained, not of its average; at the end, of what the result is of.

    Args:
        folder: the run folder.
    """

    def __init__(self, run: Run, trainer: Trainer, folder: Path) -> None:
        self._run, self._trainer, self._folder = run, trainer, folder
        wanted = [tracker.wanted for tracker in trainer.trackers]
        tables = [
            any(each.hardest_negatives for each in wanted),
            max((each.predictions for each in wanted), default=0),
        ]
        # Ranks without trackers want nothing, so the sum is what rank 0 wants.
        negatives, self._predictions = run.runtime.add(torch.tensor(tables, device=run.runtime.device)).tolist()
        self._hardest = (
            HardestNegatives.of(run, run.context.known, marked=("valid", "test", "hidden")) if negatives else None
        )
        trainer.after_validation = self._after_validation

    def _after_validation(self, stage: Stage) -> None:
        if stage is self._trainer.stages[-1]:
            self._show_negatives(self._trainer.cursor.step)

    def at_end(self) -> None:
        """Shows what there is at the end of a run, of its trained model.

        Raises:
            InputError: a file can't be written, or a score is nan or infinite.
        """
        step = self._trainer.cursor.finished[self._trainer.stages[-1].name]
        self._show_negatives(step)
        if self._predictions:
            rows = predictions(self._run, self._predictions)
            for tracker in self._trainer.trackers:
                if tracker.wanted.predictions:
                    tracker.show("predictions", rows, {}, step=step)
        self._show_plots(step)
        self._keep_export()

    def _show_negatives(self, step: int) -> None:
        if self._hardest is None:
            return
        rows = as_rows(self._hardest.find())
        for tracker in self._trainer.trackers:
            if tracker.wanted.hardest_negatives:
                tracker.show("hardest_negatives", rows, {}, step=step)

    def _show_plots(self, step: int) -> None:
        trackers = [tracker for tracker in self._trainer.trackers if tracker.wanted.plots]
        if not trackers:
            return
        metrics = self._folder / "metrics.jsonl"
        own = {stage.name for stage in self._trainer.stages}  # names become those of files
        stages = [stage for stage in by_stage(metrics, read_metrics(metrics)) if stage.name in own]
        images = draw_images(stages)
        with _passing_folder(self._folder) as folder:
            plots = {name: folder / f"{name}.png" for name in images}
            with _named_errors(folder):
                for name, path in plots.items():
                    path.write_bytes(images[name])
            for tracker in trackers:
                tracker.show("plots", [], plots, step=step)

    def _keep_export(self) -> None:
        trackers = [tracker for tracker in self._trainer.trackers if tracker.wanted.export]
        if not trackers:
            return
        # In the run folder, where there was room for checkpoints: it may be larger than /tmp.
        with _passing_folder(self._folder) as folder:
            with _named_errors(folder):
                trained = _trained(self._run, self._folder)
                write_description(trained, folder, npy.write(trained, folder))
            for tracker in trackers:
                tracker.keep("embeddings", folder)


def predictions(run: Run, count: int) -> list[dict[str, Any]]:
    """The best answers to a fixed sample of so many test triples, or valid ones, by name. Collective.

    Empty if the graph has neither. Ranks are filtered as in `result.json`.
    """
    split, triples = sampled_split(run.graph, count)
    known = run.all_known if split == "test" else run.known_in_validation
    completions = Completions(run.discriminator, known, Slots.of(run.context.statistics), run.runtime)
    rows = []
    for asked in ask_again(completions, triples, ANSWERS) if len(triples) else []:
        best = asked.best
        rows += prediction_rows(run.graph, asked.side, triples, asked.rank, best.answer, best.score, best.known)
    return rows


def _trained(run: Run, folder: Path) -> TrainedModel:
    """The model that the run's result is of, with entity rows that are read from its checkpoint. Not collective."""
    checkpoint, graph = trained_checkpoint(folder), run.graph
    return TrainedModel(
        graph, *open_model(run.config, graph, checkpoint, Runtime(0, 1, torch.device("cpu"))), checkpoint
    )


@contextmanager
def _passing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in the run folder, which is gone afterwards."""
    with _named_errors(folder):
        passing = TemporaryDirectory(dir=folder, prefix="for_trackers_", suffix=".tmp")
    with passing as name:
        yield Path(name)


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
