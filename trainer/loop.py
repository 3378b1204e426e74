"""The training loop. Communication between ranks is in `Runtime`, the embedding table and the evaluator."""

import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from embedding.exchange import bytes_sent
from graph.errors import InputError
from trainer.checkpoint import Checkpointer, Player
from trainer.determinism import repeatable
from trainer.diagnostics import Diagnostics
from trainer.evaluate import RankingMetrics
from trainer.manifest import load_manifest
from trainer.observer import Observer
from trainer.progress import Progress
from trainer.runtime import Runtime
from trainer.saver import Saver, aside_pointer, checkpoint_name
from trainer.saving_times import SavingTimes
from trainer.stage import Cursor, Stage
from trainer.step_graph import own_stream
from trainer.tracking.tracker import Tracker
from trainer.training_step import Step, TrainingStep
from trainer.validation import Validation

log = logging.getLogger(__name__)
Metrics = dict[str, dict[str, float]]
"""Metrics of a ranking by side and name; see `RankingMetrics`."""


class Stopped(Exception):
    """Raised after a signal stopped the run and a checkpoint was saved; `signal` is the signal's number."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Trainer:
    """Trains the stages one after the other, from the position of the cursor.

    Example: `Trainer(runtime, stages, players, validation=..., ...).fit()` trains from the start. Call
    `resume(checkpoint, manifest)` before `fit()` to continue a run. Afterwards `cursor` tells the best steps.

    Args:
        players: all models of the run by name, trained or not; checkpoints hold all of them.
        validation: chooses the best checkpoint of each stage.
        manifest: values that a run resumed from a checkpoint must share.
        log_every: steps between lines of metrics; fewer in short stages.
        checkpoint_minutes: minutes between checkpoints, besides those after validations; see `SavingTimes`.
        cuda_graph: whether a GPU repeats steps as one CUDA graph; None: where that is possible. See `TrainingStep`.
        deterministic: whether a GPU must compute the same each time; see `repeatable`. Then it repeats no graph.
        observers: further measurements, the same on all ranks.

    Raises:
        InputError: `log_every` or `checkpoint_minutes` is out of range, or `cuda_graph` asks for what is not possible.
    """

    def __init__(
        self,
        runtime: Runtime,
        stages: Sequence[Stage],
        players: Mapping[str, Player],
        *,
        validation: Validation,
        diagnostics: Diagnostics,
        checkpointer: Checkpointer,
        trackers: Sequence[Tracker],
        manifest: Mapping[str, Any],
        log_every: int,
        checkpoint_minutes: float,
        cuda_graph: bool | None = False,
        deterministic: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        if log_every < 1:
            raise InputError(f"trainer.log_every must be at least 1, got {log_every}")
        if deterministic and cuda_graph:
            raise InputError(
                "trainer.deterministic=true and trainer.cuda_graph=true: torch may need other kernels then, which no "
                "graph has been tried with; leave one of them out"
            )
        self.runtime = runtime
        self.deterministic = deterministic
        self.stages = stages
        self.players = players
        self.validation = validation
        self.diagnostics = diagnostics
        self.checkpointer = checkpointer
        self.trackers = trackers
        self.saver = Saver(checkpointer, players, manifest)
        self.times = SavingTimes(runtime, self.saver, minutes=checkpoint_minutes)
        graph = False if deterministic else cuda_graph
        self.training_step = TrainingStep(runtime, self.times, stages, cuda_graph=graph, observed=bool(observers))
        self.means = self.training_step.means
        self.log_every = log_every
        self.observers = observers
        self.cursor = Cursor()
        self.after_validation: Callable[[Stage], object] | None = None
        """Called on all ranks after each validation, when its metrics are tracked; it may be collective."""
        self.best_ranking: Metrics | None = None
        """After `fit`: the ranking of all valid triples by the last stage's model, by side; None if it was not made."""

    def fit(self) -> None:
        """Trains the remaining steps. Each trained model ends with the parameters of its stage's best checkpoint, or
        with the average that was best.

        Collective.

        Raises:
            Stopped: a signal asked the run to stop; a checkpoint was saved.
            InputError: the loss, a reward or a score is nan or infinite, or a checkpoint cannot be written.
        """
        gc.freeze()  # the collector would search long-lived objects each time: a tenth of a short step
        try:
            stream = own_stream(self.runtime.device) if self.training_step.needs_stream else nullcontext()
            with repeatable(self.runtime, self.deterministic), stream:
                for stage in self.stages[self.cursor.stage :]:
                    self._run_stage(stage)
            self._stop_if_asked()  # after the last step everything is saved already
        finally:
            gc.unfreeze()

    @property
    def has_steps_left(self) -> bool:
        """Whether `fit` has steps left to train."""
        later = self.stages[self.cursor.stage :]
        return len(later) > 1 or any(self._has_steps_left(stage) for stage in later)

    def _has_steps_left(self, stage: Stage) -> bool:
        return self.cursor.stage_step < stage.steps and not self._has_converged(stage)

    def _run_stage(self, stage: Stage) -> None:
        cursor = self.cursor
        if cursor.stage_step == 0:
            self.saver.start(stage)
            if self.observers:
                self._track({"epoch": 0, "stage": stage.name, **self._observe(stage)})
        positives = stage.order.chunks_per_batch * stage.order.chunk_size
        done = cursor.stage_step * positives
        self.training_step.begin(stage)
        with Progress(stage.name, stage.steps * positives, done, shown=self.runtime.is_first) as progress:
            self._run_steps(stage, positives, progress)
        self.training_step.end()
        self._finish_stage(stage)

    def _run_steps(self, stage: Stage, positives: int, progress: Progress) -> None:
        cursor = self.cursor
        logged = time.perf_counter(), cursor.step
        log_every = stage.steps_between_lines(self.log_every)
        while self._has_steps_left(stage):
            for observer in self.observers:
                observer.before_step()
            started = time.perf_counter()
            is_logged = (cursor.step + 1) % log_every == 0
            step, before = None, cursor.stage_step
            if is_logged or not self.training_step.repeat(stage, cursor.stage_step):
                step = self.train_step(stage, cursor.stage_step)
                if step is None:
                    progress.advance(positives * (cursor.stage_step - before))
                    continue
            cursor.stage_step += 1
            cursor.step += 1
            stage.after_step(cursor.stage_step)
            is_validated = stage.validates_after(cursor.stage_step)
            is_saved = self.times.asked_to_stop or self.times.is_due
            is_last = not self._has_steps_left(stage)
            goes_back = False
            if is_logged or is_validated or is_saved or is_last or self.means.must_be_read:
                goes_back = self.training_step.must_go_back(stage, cursor, done=1)
            seconds = time.perf_counter() - started
            cursor.seconds += seconds
            for observer in self.observers:
                observer.after_step(seconds)
            if goes_back:
                progress.advance(positives * (cursor.stage_step - before))
                continue
            if step is not None and is_logged:
                self._log_step(stage, step, positives * (cursor.step - logged[1]) / (time.perf_counter() - logged[0]))
                logged = time.perf_counter(), cursor.step
            best = cursor.best_value if cursor.best_checkpoint is not None else None
            means = self.means.last
            shown = {"loss": means.get("loss"), "reward": means.get("reward"), f"best {self.validation.name}": best}
            progress.advance(positives, **shown)
            if is_validated:
                self._validate(stage)
                logged = time.perf_counter(), cursor.step
            elif is_saved:
                self._save(stage)
            elif self.times.is_written:
                self.saver.publish()
            if self.times.asked_to_stop:
                self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Ends the run on all ranks if a signal reached any of them. Collective."""
        number = self.runtime.agree_on_signal()
        if number is not None:
            raise Stopped(number)

    def train_step(self, stage: Stage, number: int) -> Step | None:
        """Trains one step of a stage: see `TrainingStep.train`. Collective."""
        return self.training_step.train(stage, number, self.cursor)

    def _log_step(self, stage: Stage, step: Step, rate: float) -> None:
        metrics: dict[str, float | int | str] = {"epoch": step.batch.epoch, "stage": stage.name}
        metrics["train/loss"] = self.means.last["loss"]
        metrics["train/lr"] = stage.player.optimizer.lr
        if step.reward is not None:
            metrics["generator/reward"] = self.means.last["reward"]
        metrics |= self.diagnostics.means(step.batch, step.negatives, step.verdict, stage.sampler.metrics())
        metrics |= self.diagnostics.digests(step.batch, step.negatives) | self.diagnostics.usage()
        storage = stage.player.model.site.storage
        if storage is not None:
            metrics |= {
                "speed/shard_bytes_read": storage.bytes_read,
                "speed/shard_bytes_written": storage.bytes_written,
            }
        if self.runtime.world_size > 1:
            if self.training_step.has_fixed_exchange(stage):
                metrics["speed/made_again"] = self.training_step.made_again
            metrics["speed/bytes_sent"] = int(self.runtime.add(torch.tensor(bytes_sent(), device=self.runtime.device)))
        self._track({**metrics, "speed/triples_per_second": rate})

    def _validate(self, stage: Stage) -> None:
        cursor = self.cursor
        if not stage.is_regular(cursor.stage_step):
            cursor.set_best_aside()
        model = stage.player.model
        model.encode()
        ranking = stage.rank(lambda: self.validation.of(model), cursor.stage_step)
        value = ranking.value
        if better := value > cursor.best_value:
            cursor.best_value, cursor.best_step, cursor.stale = value, cursor.step, 0
            cursor.best_checkpoint = checkpoint_name(cursor)
        else:
            cursor.stale += 1
        if stage.is_regular(cursor.stage_step):
            stage.schedule.validated(value)
        epoch = (cursor.stage_step - 1) // stage.order.steps_per_epoch
        place = {"epoch": epoch, "stage": stage.name, "speed/seconds": cursor.seconds}
        self._track({**place, **ranking.metrics, **self._observe(stage)})
        if self.after_validation is not None:
            self.after_validation(stage)
        if self.runtime.is_first:
            said = self.validation.line(value), " (best)" if better else ""
            log.info("%s %s: %s%s", stage.name, stage.place(cursor.stage_step), *said)
        self._save(stage, best=better, ranking=ranking.of_split)

    def _observe(self, stage: Stage) -> dict[str, float | int]:
        """The metrics of all observers. Collective."""
        return {name: value for each in self.observers for name, value in each.measure(stage, self.cursor).items()}

    def _track(self, metrics: dict[str, float | int | str]) -> None:
        for tracker in self.trackers:
            tracker.log(self.cursor.step, metrics)

    def _has_converged(self, stage: Stage) -> bool:
        return 0 < stage.patience <= self.cursor.stale

    def _finish_stage(self, stage: Stage) -> None:
        cursor = self.cursor
        cursor.finished[stage.name] = cursor.step if cursor.best_checkpoint is None else cursor.best_step
        is_last = stage is self.stages[-1]
        if is_last and not self.saver.has_saved(cursor):
            # Saves the last step with its optimisers, so that a run with more epochs can go on from here.
            self._save(stage)
        self.saver.publish()
        if cursor.best_checkpoint is not None:
            best = self.checkpointer.folder / cursor.best_checkpoint
            self.checkpointer.load_trained(best, {stage.trained: stage.player.model})
            self.best_ranking = load_manifest(best).get("ranking")
        else:
            stage.use_average()
            stage.player.model.encode()
        if not is_last:
            cursor.stage, cursor.stage_step = cursor.stage + 1, 0
            cursor.best_value, cursor.best_step, cursor.best_checkpoint, cursor.stale = -1.0, 0, None, 0
            cursor.set_aside = None
            self._save(None)
            self.checkpointer.drop(aside_pointer(stage))

    def _save(self, stage: Stage | None, *, best: bool = False, ranking: RankingMetrics | None = None) -> None:
        run_id = next((tracker.run_id for tracker in self.trackers if tracker.run_id is not None), None)
        goes_on = stage is not None and self._has_steps_left(stage) and not self.times.asked_to_stop
        options = {"best": best, "run_id": run_id, "ranking": ranking, "background": goes_on}
        self.saver.save(self.cursor, stage, self.observers, **options)

    def resume(self, checkpoint: Path, manifest: Mapping[str, Any]) -> None:
        """Restores the position, models, optimisers and sampler of a checkpoint. Collective.

        Args:
            manifest: the checkpoint's manifest, as `Checkpointer.read_manifest` returns it.

        Raises:
            InputError: the checkpoint is of a run with other values of `manifest`, or its tensors do not fit this run.
        """
        self.cursor = self.saver.resume(checkpoint, manifest, self.stages, self.observers)
