"""Trains: `python launch/train.py graph=... generator=... discriminator=...`, or the same under torchrun."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from launch import schema
from launch.arguments import for_shell
from launch.as_typed import as_typed
from launch.closed_pipe import unread_output_dropped
from launch.errors import FailedJobError, one_line_config_errors, one_line_errors
from launch.groups import settle_choices
from launch.grown import refuse_what_does_not_go_together
from launch.kept_rows import refuse_with_bfloat16
from launch.last_line import is_rank
from launch.on_disk import settle_storage
from launch.one_run import JOB, how_to_go_on, train_one
from launch.options import check_options, check_sections
from launch.paths import absolute_lines, make_absolute
from launch.plain_words import refuse_plain_words
from launch.ranks import MOST_RANKS, prepare_arguments, run_ranks
from launch.refused_run import leaving_nothing_if_refused
from launch.sweep_report import report_sweep
from launch.this_command import this_command
from launch.typed import note_typed
from trainer.runtime import check_timeout

log = logging.getLogger(__name__)
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
            train_one(config, folder)
        return
    with _numbered(job):
        ending = run_ranks(Path(__file__), absolute_lines(typed, config), folder, config.launch.ranks)
    if ending.stopped_by is not None and not ending.said_how_to_resume:
        log.info("stopped by signal %d; %s", ending.stopped_by, how_to_go_on(folder))
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
        os.environ[JOB] = str(job.job.num)
    try:
        yield
    finally:
        os.environ.pop(JOB, None)


def _note_failed(folder: Path) -> None:
    if os.getpid() not in _command:  # joblib's or submitit's process, whose lists the command does not see
        raise FailedJobError(str(folder))
    _failed_jobs.append(folder)


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
