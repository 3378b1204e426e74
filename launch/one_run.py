"""One run from its options to its result, as each of its ranks goes through it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch import early_signals
from launch.advice import about_graph, after_training, before_training, ends_with_its_rate
from launch.agreed import agree_on_beginning, refuse_other_checkpoints
from launch.arguments import for_shell, key_of, override
from launch.as_typed import as_typed
from launch.build import build_run, build_trainer
from launch.closing import close_run
from launch.combinations import refuse_senseless
from launch.for_trackers import ForTrackers
from launch.grown import grow
from launch.last_line import is_rank, may_say
from launch.own_targets import check_plain
from launch.parts import plain
from launch.paths import absolute_lines
from launch.resumed import derived_options, keep_what_is_done, refuse_what_is_too_late, refuse_what_was_forgotten
from launch.same_model import refuse_another_model
from launch.saved_options import saved_options
from launch.this_command import this_command
from launch.titles import title_of
from reporting.files import write_text
from trainer.loop import Stopped, Trainer
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime

log = logging.getLogger(__name__)
JOB = "ADVKGE_JOB"
"""Environment variable of the processes of a job of a sweep: its number."""


def train_one(config: DictConfig, folder: Path) -> None:
    """Trains one run in its folder, as one rank of it. Collective."""
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=config.launch.timeout_seconds)
    try:
        begin = agree_on_beginning(config, list(HydraConfig.get().overrides.task), folder, runtime)
        typed, derived = begin.typed, derived_options(begin.config)
        config = _checked(begin.config)
        taken_from = config.grow.run if config.resume is None else config.resume
        checkpoint = _checkpoint_to_resume(config, folder)
        refuse_other_checkpoints(checkpoint, runtime)
        if checkpoint is not None:
            keep_what_is_done(config, typed, checkpoint)
            refuse_another_model(config, checkpoint, "resume")
        batch_size = config.trainer.batch_size  # null: the run will choose one
        run = build_run(config, runtime, trains=True, loaded=checkpoint is not None)
        trainer = build_trainer(run, folder, resumed=checkpoint is not None, disks=begin.disks)
        refuse_senseless(config, trainer)
        _tell_of_graph(runtime, run.graph.summary(), about_graph(HydraConfig.get().runtime.choices, typed))
        _tell(runtime, grow(config, run, trainer))
        if config.resume is not None:
            refuse_what_was_forgotten(config, typed, derived, Path(config.resume))
        run_id = None if checkpoint is None else _resume(config, checkpoint, trainer)
        if taken_from is not None:
            _tell(runtime, _what_is_not_taken(Path(taken_from) / "overrides.yaml", typed))
        # Not earlier: a resume that is refused, or of a finished run, must not change the run folder.
        if runtime.is_first and (trainer.has_steps_left or not (folder / "config.yaml").exists()):
            _write_config(config, typed, folder)
        runtime.agree(_start_trackers(config, trainer, folder, run_id))
        if checkpoint is None:  # a resumed run keeps its batch size
            _tell(runtime, before_training(trainer, batch_size))
        for_trackers = ForTrackers(run, trainer, folder)
        trains = trainer.has_steps_left
        try:
            with runtime.noting_signals():
                trainer.fit()
        except BaseException:
            for tracker in trainer.trackers:
                tracker.finish(None)
            raise
        if not is_rank():
            early_signals.end_at_signals(how_to_go_on(folder))
        close_run(run, trainer, for_trackers, folder, trainer.best_ranking if trains else None)
        if trains:
            _advise_to_go_on(trainer, folder)
    except Stopped as stopped:
        line = f"stopped by signal {stopped.signal}; {how_to_go_on(folder)}"
        if runtime.is_first and may_say(line):
            log.info("%s", line)
        runtime.close()
        raise SystemExit(128 + stopped.signal) from None
    runtime.close()  # not after an error: this rank prints it first, before others notice that it is gone


def _checked(config: DictConfig) -> DictConfig:
    """The config; if options come from another run, and so perhaps from someone else, as they were checked."""
    taken_from = config.grow.run if config.resume is None else config.resume
    if taken_from is None:
        return config
    values = plain(config)  # resolved once
    check_plain(f"{'grow.run' if config.resume is None else 'resume'}={taken_from}", values)
    return OmegaConf.create(values)


def _checkpoint_to_resume(config: DictConfig, folder: Path) -> Path | None:
    """The checkpoint that `resume` names, if any. Refuses a run folder that holds another run."""
    checkpoint = None if config.resume is None else find_checkpoint(Path(config.resume), "latest", "resume")
    own = folder / "checkpoints"
    if (own / "latest.json").exists() and (checkpoint is None or checkpoint.resolve().parent != own.resolve()):
        raise InputError(
            f"hydra.run.dir: {folder} already holds a run; go on with it by {_going_on(folder)}, or name another folder"
            " (with resume=auto it goes on whenever it is started again)"
        )
    return checkpoint


def _resume(config: DictConfig, checkpoint: Path, trainer: Trainer) -> str | None:
    """Loads a checkpoint to resume from; returns the tracker's id of that run. Collective."""
    manifest = trainer.checkpointer.read_manifest(
        checkpoint, "cursor", "tracker_run_id", "schedule", *trainer.saver.manifest
    )
    trainer.resume(checkpoint, manifest)
    refuse_what_is_too_late(config, trainer, checkpoint)
    log.info("resumed from %s at step %d", checkpoint, trainer.cursor.step)
    if not trainer.has_steps_left:
        folder = checkpoint.parents[1]  # the run folder, which has the options too
        more = f"trainer.epochs={2 * trainer.stages[-1].epochs}"
        log.info("that run is finished, so it is only ranked again; to train it further: %s", _going_on(folder, more))
    return manifest["tracker_run_id"]


def _what_is_not_taken(file: Path, typed: Sequence[str]) -> str | None:
    """Says which saved options are not used: a folder from someone else must not decide where and how a run runs."""
    given = {key_of(line) for line in typed}
    _, left = saved_options(file, given) if file.is_file() else ([], [])
    if not left:
        return None
    return f"these options of the run folder are not used; type again those that you want: {for_shell(*left)}"


def _write_config(config: DictConfig, typed: Sequence[str], folder: Path) -> None:
    """Writes config.yaml, all options, and overrides.yaml, the typed ones, which `resume` uses again."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    lines = absolute_lines(as_typed(list(typed)), config)
    if "root" in config.graph and not any(key_of(line) == "graph.root" for line in lines):
        # It may depend on $ADVKGE_DATA, or on the folder where the run was started.
        lines.append(override("graph.root", config.graph.root))
    if not any(key_of(line) in ("recipe", "experiment") for line in lines):
        lines.append(override("recipe", HydraConfig.get().runtime.choices["recipe"]))
    kept = [line for line in lines if key_of(line) != "resume"]
    write_text(folder / "overrides.yaml", yaml.safe_dump(kept, allow_unicode=True))


def _start_trackers(config: DictConfig, trainer: Trainer, folder: Path, run_id: str | None) -> str | None:
    """Starts the trackers, which only rank 0 has; returns the text of an error, for all ranks, or None."""
    choices = dict(HydraConfig.get().runtime.choices)
    title = title_of(choices, folder, seed=config.seed, job_type="train")
    try:
        for tracker in trainer.trackers:
            tracker.start(folder, plain(config), title=title, run_id=run_id, from_step=trainer.cursor.step)
    except InputError as error:
        return str(error)
    return None


def _tell_of_graph(runtime: Runtime, summary: str, hint: str | None) -> None:
    """Logs what the graph is; its first line is enough for all runs of a sweep but the first."""
    if os.environ.get(JOB, "0") == "0":
        _tell(runtime, summary)
        _tell(runtime, hint)
    else:
        _tell(runtime, summary.partition("\n")[0])


def _tell(runtime: Runtime, line: str | None) -> None:
    """Logs a line, if there is one, on rank 0."""
    if line is not None and runtime.is_first:
        log.info("%s", line)


def _advise_to_go_on(trainer: Trainer, folder: Path) -> None:
    """Says that the metric still rose at the end, if it did, and how to train longer."""
    rising, more = after_training(trainer), f"trainer.epochs={2 * trainer.stages[-1].epochs}"
    if rising is None:
        return
    if ends_with_its_rate(trainer):
        _tell(trainer.runtime, f"{rising}; its learning rate has come to its end: a new run with {more} may do better")
    else:
        _tell(trainer.runtime, f"{rising}; go on with: {_going_on(folder, more)}")


def how_to_go_on(folder: Path) -> str:
    """What to type to go on with the run in this folder, if it has saved a checkpoint."""
    saved = (folder / "checkpoints" / "latest.json").exists()
    return f"go on with: {_going_on(folder)}" if saved else "nothing was saved yet"


def _going_on(folder: Path, *options: str) -> str:
    """The command that resumes a run."""
    return for_shell(*this_command(), override("resume", str(folder)), *options)
