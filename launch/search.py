"""Searches for good options: `python launch/search.py graph=... 'optimizer.lr=tag(log,interval(1e-4,0.1))' ...`.

Optuna's tree-structured Parzen estimator (Bergstra et al., NIPS 2011) proposes the options of each run (trial). A run
is stopped when its validation metric is below the median of the others at the same validation. The same command with
the same hydra.run.dir continues a search.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from graph.errors import InputError
from launch import schema
from launch.arguments import for_shell, key_of, override, read_arguments
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.groups import settle_choices
from launch.help import help_of
from launch.last_line import is_rank
from launch.options import check_options
from launch.paths import absolute_lines, make_absolute
from launch.plain_words import refuse_plain_words
from launch.ranks import prepare_arguments
from launch.refused_run import leaving_nothing_if_refused
from launch.search_report import REPEATS, run_trials, write_report
from launch.search_space import Dimension, as_options, split_space
from launch.splits import needs_splits
from launch.this_command import this_command
from launch.trial import kill_running, run_trial

log = logging.getLogger(__name__)
_folder: list[Path] = []
"""The folder of the search, once it is known."""
_space: list[Dimension] = []
_words: list[str] = []
"""What was typed."""
_MOST_FAILURES = 3
"""If so many runs fail and none succeeds, the search ends: its options are wrong."""


class _Failed(Exception):
    """A run ended with an error; the search continues with the next one."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="search")
def run_job(config: DictConfig) -> None:
    """Makes one search."""
    with one_line_errors(), one_line_config_errors("search"):
        if is_rank():
            raise InputError(f"a search starts its runs itself; type: {for_shell(*this_command(), *_words)}")
        make_absolute(config)
        job = HydraConfig.get()
        _folder[:] = [Path(job.runtime.output_dir)]
        check_options(config)
        _check(config.search)
        if config.search.metric is None:
            group = "valid" if config.trainer.valid_sample is None else "valid_sample"
            config.search.metric = f"{group}/{config.trainer.metric}"
        if config.search.metric.startswith("valid") and not any(each.key.split(".")[0] == "graph" for each in _space):
            needs_splits([config], ("valid",), f"search.metric={config.search.metric}")
        typed = absolute_lines(list(job.overrides.task), config)
        given = [line for line in typed if not line.startswith("search.")]
        folder = Path(job.runtime.output_dir)
        with _ending_at_signals(folder):
            _Search(config.search, _space, given, folder).run()


@contextmanager
def _ending_at_signals(folder: Path) -> Iterator[None]:
    """SIGTERM and SIGINT end the search at once, with its runs; their trials are tried again when it goes on."""

    def end(number: int, _: FrameType | None) -> None:
        kill_running()
        others = [word for word in _words if key_of(word) != "hydra.run.dir"]
        command = for_shell(*this_command(), override("hydra.run.dir", str(folder)), *others)
        print(f"stopped by signal {number}; go on with: {command}", flush=True)
        os._exit(128 + number)  # the threads of other workers would start new runs

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(options: DictConfig) -> None:
    if not _space:
        raise InputError(
            "nothing is varied; give at least one option several values, as in loss=softmax,margin_ranking"
        )
    for key in ("trainer.metric", "trainer.valid_sample"):
        if any(dimension.key == key for dimension in _space):
            raise InputError(f"{key} can't be varied: a search compares its runs by one metric of the same triples")
    for key in ("trials", "workers", "first", "warm_up"):
        if options[key] < 1:
            raise InputError(f"search.{key} must be at least 1, got {options[key]}")


class _Search:
    """A study in its folder: `study.jsonl` is Optuna's journal, `trials/` has a run folder for each trial."""

    def __init__(self, options: DictConfig, space: list[Dimension], given: list[str], folder: Path) -> None:
        self.options = options
        self.space = {dimension.key: dimension.distribution for dimension in space}
        self.given = given
        self.folder = folder
        # Of a trial that fails, optuna's warnings show a traceback; `_try` says why in a line.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.jsonl"))),
            study_name="search",
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(options.first, options.warm_up),
        )
        # The seed depends on the number of trials so far: otherwise a continued search would repeat its first trials.
        seed = len(self.study.get_trials())
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=options.first, multivariate=True)
        self._refuse_another_search()

    def _refuse_another_search(self) -> None:
        described = {"space": {key: str(value) for key, value in self.space.items()}, "given": self.given}
        before = self.study.user_attrs.get("search")
        if before is not None and before != described:
            raise InputError(
                f"hydra.run.dir: {self.folder} holds a search with other options ({_difference(before, described)}); "
                "give the same ones as before to go on, or name another folder"
            )
        self.study.set_user_attr("search", described)

    def run(self) -> None:
        """Runs the remaining trials, then writes the table and the plot."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            # The search was stopped or killed during this trial: its options are tried again.
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params)
        before = -1
        # Repeats of earlier options are not run and do not count; the search ends early if it finds no others.
        while before < (done := len(run_trials(self.study))) < self.options.trials:
            before = done
            left = self.options.trials - done
            self.study.optimize(self._try, n_trials=left, n_jobs=self.options.workers, catch=(_Failed,))
        print(write_report(self.study, self.options.metric, self.given, self.folder))
        trials = self.study.get_trials()
        if not any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials):
            reasons = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
            raise InputError(f"no run succeeds, {len(reasons)} have failed: {reasons[-1] if reasons else 'none ended'}")

    def _try(self, trial: optuna.Trial) -> float:
        values = {key: trial._suggest(key, distribution) for key, distribution in self.space.items()}
        lines = as_options(values)
        same = next((each for each in run_trials(self.study) if each.params == values), None)
        if same is not None:
            trial.set_user_attr(REPEATS, same.number)
            log.info("trial %d: the options of trial %d, which are not run again", trial.number, same.number)
            if same.state == TrialState.PRUNED or same.value is None:
                raise optuna.TrialPruned
            return same.value
        threads = max(1, (os.cpu_count() or 1) // self.options.workers)

        def is_hopeless(number: int, metric: float) -> bool:
            trial.report(metric, number)
            return trial.should_prune()

        place = self.folder / "trials" / f"{trial.number:04d}"
        outcome = run_trial([*self.given, *lines], place, self.options.metric, threads, is_hopeless)
        reason = outcome.error or ""
        if not reason and outcome.best is None:
            reason = f"it had no validation with {self.options.metric} (see trainer.valid_every)"
        shown = "none" if outcome.best is None else f"{outcome.best:.4f}"
        end = "pruned" if outcome.pruned else reason or "finished"
        log.info("trial %d: %s %s, %s: %s", trial.number, self.options.metric, shown, end, " ".join(lines))
        if outcome.pruned:
            raise optuna.TrialPruned
        if not reason and outcome.best is not None:
            return outcome.best
        trial.set_user_attr("error", reason)
        self._give_up_if_none_works(reason)
        raise _Failed

    def _give_up_if_none_works(self, reason: str) -> None:
        ended = self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        failed = self.study.get_trials(states=(TrialState.FAIL,))
        if not ended and len(failed) + 1 >= _MOST_FAILURES:
            raise InputError(f"no run succeeds, {len(failed) + 1} have failed: {reason}")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = ({*each["given"], *(f"{key}={value}" for key, value in each["space"].items())} for each in (before, now))
    return ", ".join(sorted(old ^ new))


def main() -> None:
    """The command."""
    with unread_output_dropped():
        schema.register()
        _words[:] = sys.argv[1:]
        _folder.clear()
        with one_line_errors():
            refuse_plain_words(_words, "search")
            dimensions, others = split_space(sys.argv[1:])
            if read_arguments(others).wants_help:
                print(help_of("search"))
                return
            _space[:] = dimensions
            sys.argv[1:] = prepare_arguments(settle_choices(others))
        with leaving_nothing_if_refused(sys.argv[1:], _folder), one_line_config_errors("search"):
            run_job()


if __name__ == "__main__":
    main()
