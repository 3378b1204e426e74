"""Trains: `python launch/train.py graph=... generator=... discriminator=...`, or the same under torchrun."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
import yaml
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from launch import early_signals, schema
from launch.advice import about_graph, after_training, before_training, ends_with_its_rate
from launch.agreed import agree_on_beginning, refuse_other_checkpoints
from launch.arguments import for_shell, key_of, override
from launch.as_typed import as_typed
from launch.build import build_run, build_trainer
from launch.closed_pipe import unread_output_dropped
from launch.closing import close_run
from launch.combinations import refuse_senseless
from launch.errors import FailedJobError, one_line_config_errors, one_line_errors
from launch.for_trackers import ForTrackers
from launch.groups import settle_choices
from launch.grown import grow, refuse_what_does_not_go_together
from launch.kept_rows import refuse_with_bfloat16
from launch.last_line import is_rank, may_say
from launch.on_disk import settle_storage
from launch.options import check_options, check_sections
from launch.own_targets import check_plain
from launch.parts import plain
from launch.paths import absolute_lines, make_absolute
from launch.plain_words import refuse_plain_words
from launch.ranks import MOST_RANKS, prepare_arguments, run_ranks
from launch.refused_run import leaving_nothing_if_refused
from launch.resumed import derived_options, keep_what_is_done, refuse_what_is_too_late, refuse_what_was_forgotten
from launch.same_model import refuse_another_model
from launch.saved_options import saved_options
from launch.sweep_report import report_sweep
from launch.this_command import this_command
from launch.titles import title_of
from launch.typed import note_typed
from reporting.files import write_text
from trainer.loop import Stopped, Trainer
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime, check_timeout

log = logging.getLogger(__name__)
_JOB = "ADVKGE_JOB"
"""Environment variable of the processes of a job of a sweep: its number."""
_command: list[int] = []
"""The process of the command itself."""
_failed_jobs: list[Path] = []
_folder: list[Path] = []
"""The folder of a single run, once it is known."""
_sweep: list[Path] = []
"""The folder of the sweep whose jobs are run, if they are of one."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="train")
@record
def run_job(config: DictConfig) -> None:
    """Runs one job: in this process, or in new processes if it has several ranks or is part of a sweep."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if job.mode == RunMode.MULTIRUN:
        _sweep[:] = [Path(job.sweep.dir).absolute()]
    else:
        _folder[:] = [folder]
    try:
        # Before ranks start, so that an error is one line, without a launcher's report of failed ranks.
        check_sections(config)
        check_timeout(config.launch.timeout_seconds)
        check_options(config)
        if not 1 <= config.launch.ranks <= MOST_RANKS:
            raise InputError(f"launch.ranks must be at least 1 and at most {MOST_RANKS}, got {config.launch.ranks}")
        make_absolute(config)
        refuse_what_does_not_go_together(config)
        settle_storage(config, folder)
        refuse_with_bfloat16(config)
    except InputError as error:
        if job.mode == RunMode.RUN:
            with one_line_errors():
                raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        _note_failed(folder)
        return
    # Not resolved: interpolations stay as they were typed.
    typed = [str(line) for line in OmegaConf.to_container(job.overrides.task, resolve=False) or []]
    if is_rank() or (config.launch.ranks == 1 and job.mode == RunMode.RUN):
        with one_line_errors():
            note_typed(config, as_typed(typed))
            train(config, folder)
        return
    with _numbered(job):
        ending = run_ranks(Path(__file__), absolute_lines(typed, config), folder, config.launch.ranks)
    if ending.stopped_by is not None and not ending.said_how_to_resume:
        log.info("stopped by signal %d; %s", ending.stopped_by, _how_to_go_on(folder))
    if job.mode == RunMode.RUN:
        if ending.error is not None or ending.stopped_by is not None:
            raise SystemExit(1 if ending.stopped_by is None else 128 + ending.stopped_by)
    elif ending.asked is not None:  # the signal ends the whole sweep
        raise SystemExit(128 + ending.asked)
    elif ending.error is not None or ending.stopped_by is not None:
        _note_failed(folder)  # its error has been printed


@contextmanager
def _numbered(job: HydraConf) -> Iterator[None]:
    """Lets the processes of a job know its number in the sweep."""
    if job.mode == RunMode.MULTIRUN:
        os.environ[_JOB] = str(job.job.num)
    try:
        yield
    finally:
        os.environ.pop(_JOB, None)


def _note_failed(folder: Path) -> None:
    if os.getpid() not in _command:  # joblib's or submitit's process, whose lists the command does not see
        raise FailedJobError(str(folder))
    _failed_jobs.append(folder)


def _how_to_go_on(folder: Path) -> str:
    saved = (folder / "checkpoints" / "latest.json").exists()
    return f"go on with: {_going_on(folder)}" if saved else "nothing was saved yet"


def _going_on(folder: Path, *options: str) -> str:
    """The command that resumes a run."""
    return for_shell(*this_command(), override("resume", str(folder)), *options)


def train(config: DictConfig, folder: Path) -> None:
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
            early_signals.end_at_signals(_how_to_go_on(folder))
        close_run(run, trainer, for_trackers, folder, trainer.best_ranking if trains else None)
        if trains:
            _advise_to_go_on(trainer, folder)
    except Stopped as stopped:
        line = f"stopped by signal {stopped.signal}; {_how_to_go_on(folder)}"
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


def _tell(runtime: Runtime, line: str | None) -> None:
    """Logs a line, if there is one, on rank 0."""
    if line is not None and runtime.is_first:
        log.info("%s", line)


def _tell_of_graph(runtime: Runtime, summary: str, hint: str | None) -> None:
    """Logs what the graph is; its first line is enough for all runs of a sweep but the first."""
    if os.environ.get(_JOB, "0") == "0":
        _tell(runtime, summary)
        _tell(runtime, hint)
    else:
        _tell(runtime, summary.partition("\n")[0])


def _advise_to_go_on(trainer: Trainer, folder: Path) -> None:
    rising, more = after_training(trainer), f"trainer.epochs={2 * trainer.stages[-1].epochs}"
    if rising is None:
        return
    if ends_with_its_rate(trainer):
        _tell(trainer.runtime, f"{rising}; its learning rate has come to its end: a new run with {more} may do better")
    else:
        _tell(trainer.runtime, f"{rising}; go on with: {_going_on(folder, more)}")


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


def main() -> None:
    """The command."""
    with unread_output_dropped():
        _command[:] = [os.getpid()]
        _failed_jobs.clear()
        _folder.clear()
        _sweep.clear()
        schema.register()
        with one_line_errors():
            words = sys.argv[1:]
            refuse_plain_words(words, "train")
            sys.argv[1:] = prepare_arguments(settle_choices(words))
        try:
            with leaving_nothing_if_refused(sys.argv[1:], _folder), one_line_config_errors("train"):
                run_job()
        except FailedJobError as error:  # hydra tells of one
            print(f"error: at least one job of the sweep failed: {error}", file=sys.stderr)
            sys.exit(1)
        if _sweep and any(_sweep[0].rglob("result.json")):
            with one_line_errors():
                print(report_sweep(_sweep[0], for_shell(*this_command(), *words)))
        if _failed_jobs:
            jobs = "1 job" if len(_failed_jobs) == 1 else f"{len(_failed_jobs)} jobs"
            print(f"error: {jobs} of the sweep failed: {', '.join(map(str, _failed_jobs))}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
