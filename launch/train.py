"""Trains: `python launch/train.py graph=... generator=... discriminator=...`, or the same under torchrun."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from launch import schema
from launch.build import Run, build_run, build_trainer, plain
from launch.combinations import refuse_senseless
from launch.groups import settle_choices
from launch.options import check_options, check_sections
from launch.ranks import is_rank, prepare_arguments, run_ranks
from launch.report import FILTERS, one_line_config_errors, one_line_errors, results_table, write_text
from launch.typed import note_typed
from trainer.checkpoint import find_checkpoint
from trainer.loop import Stopped, Trainer
from trainer.runtime import Runtime, check_timeout

log = logging.getLogger(__name__)
_failed_jobs: list[str] = []
_MOST_RANKS = 1024
"""Of one machine: more is a slip, and would start as many processes before anything fails."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="train")
@record
def run_job(config: DictConfig) -> None:
    """One job: trains here, or in processes of its own if there are to be several, or if it is one of a sweep."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    try:
        # Before ranks start, so that there is one line and not one beside an agent's report of ranks that failed.
        check_sections(config)
        check_timeout(config.launch.timeout_seconds)
        check_options(config)
        if not 1 <= config.launch.ranks <= _MOST_RANKS:
            raise InputError(f"launch.ranks must be at least 1 and at most {_MOST_RANKS}, got {config.launch.ranks}")
    except InputError as error:
        if job.mode == RunMode.RUN:
            with one_line_errors():
                raise
        _failed_jobs.append(f"{folder}: {error}")
        return
    # As they were typed: read one by one, an interpolation in them would be resolved.
    typed = [str(line) for line in OmegaConf.to_container(job.overrides.task, resolve=False) or ()]
    if is_rank() or (config.launch.ranks == 1 and job.mode == RunMode.RUN):
        with one_line_errors():
            note_typed(config, typed)
            train(config, folder)
        return
    failure = run_ranks(Path(__file__), typed, folder, config.launch.ranks)
    if failure is not None:
        _failed_jobs.append(f"{folder}: {failure}")


def train(config: DictConfig, folder: Path) -> None:
    """Trains one run in its folder, as one rank of it. Collective."""
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=config.launch.timeout_seconds)
    runtime.stop_at_signals()
    try:
        checkpoint = _checkpoint_to_resume(config, folder)
        run = build_run(config, runtime)
        trainer = build_trainer(run, folder)
        refuse_senseless(config, trainer)
        if runtime.is_first:
            log.info("%s", run.graph.summary())
        run_id = None if checkpoint is None else _resume(checkpoint, trainer)
        # Only now: a resume that is refused leaves the run folder as it was; so does one of a run that is finished.
        finished = trainer.cursor.stage == len(trainer.stages)
        if runtime.is_first and not (finished and (folder / "config.yaml").exists()):
            _write_config(config, folder)
        runtime.agree(_start_trackers(config, trainer, folder, run_id))
        try:
            trainer.fit()
        except BaseException:
            for tracker in trainer.trackers:
                tracker.finish(None)
            raise
        _report(run, trainer, folder)
    except Stopped as stopped:
        if runtime.is_first:
            log.info("stopped by signal %d; go on with resume=%s", stopped.signal, folder)
        raise SystemExit(128 + stopped.signal) from None
    finally:
        runtime.close()


def _start_trackers(config: DictConfig, trainer: Trainer, folder: Path, run_id: str | None) -> str | None:
    """What is wrong with what one was told, if anything: only rank 0 has them, and all must end."""
    try:
        for tracker in trainer.trackers:
            tracker.start(folder, plain(config), run_id=run_id, from_step=trainer.cursor.step)
    except InputError as error:
        return str(error)
    return None


def _checkpoint_to_resume(config: DictConfig, folder: Path) -> Path | None:
    """The checkpoint that `resume` means, if any; refuses to mix a new run into a folder that has another."""
    checkpoint = None if config.resume is None else find_checkpoint(Path(config.resume), "latest", "resume")
    own = folder / "checkpoints"
    if (own / "latest.json").exists() and (checkpoint is None or checkpoint.resolve().parent != own.resolve()):
        raise InputError(
            f"hydra.run.dir: {folder} already holds a run; go on with it by resume={folder}, or name another folder"
        )
    return checkpoint


def _resume(checkpoint: Path, trainer: Trainer) -> str | None:
    """Goes back to a checkpoint; returns the tracker's id of that run. Collective."""
    manifest = trainer.checkpointer.read_manifest(checkpoint)
    trainer.resume(checkpoint, manifest)
    log.info("resumed from %s at step %d", checkpoint, trainer.cursor.step)
    if trainer.cursor.stage == len(trainer.stages):
        log.info(
            "that run is finished; train its model on by a new run, pretrain.discriminator.checkpoint=%s", checkpoint
        )
    return manifest["tracker_run_id"]


def _write_config(config: DictConfig, folder: Path) -> None:
    """Writes every option, and those that were typed, which `resume` takes up again."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    typed = [line for line in HydraConfig.get().overrides.task if not line.startswith("resume=")]
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(typed)))


def _report(run: Run, trainer: Trainer, folder: Path) -> None:
    """Ranks the best model on valid and, this once, on test; writes result.json. Collective."""
    valid = run.evaluator(run.known_in_validation).evaluate(run.discriminator, run.graph.valid).as_dict()
    test = run.evaluator(run.all_known).evaluate(run.discriminator, run.graph.test).as_dict()
    cursor = trainer.cursor
    positives = cursor.step * run.config.trainer.batch_size
    result: dict[str, Any] = {
        "valid": valid,
        "test": test,
        "best_step": cursor.finished[trainer.stages[-1].name],
        "steps": cursor.step,
        "stages": cursor.finished,
        "seconds": cursor.seconds,
        "triples_per_second": positives / cursor.seconds if cursor.seconds else 0.0,
        "seed": run.config.seed,
        "world_size": run.runtime.world_size,
    }
    for tracker in trainer.trackers:
        tracker.finish(result)
    if run.runtime.is_first:
        write_text(folder / "result.json", json.dumps(result, indent=1))
        print(results_table(result, FILTERS))
        print(f"run folder: {folder}")


def main() -> None:
    """The command."""
    schema.register()
    with one_line_errors():
        sys.argv[1:] = prepare_arguments(settle_choices(sys.argv[1:]))
    with one_line_config_errors():
        run_job()
    if _failed_jobs:
        print("\n".join(f"error: {failure}" for failure in _failed_jobs), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
