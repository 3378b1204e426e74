"""The results of a search: a table of its trials, a plot, and the command of the best trial."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from launch.arguments import for_shell
from launch.search_space import as_options
from reporting.files import write_text

_SHOWN = 10
REPEATS = "repeats"
"""Attribute of a trial that was not run, because its options are those of an earlier one: the number of that one."""


def run_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended, without failed ones and repeats."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in ended if REPEATS not in trial.user_attrs]


def write_report(study: optuna.Study, metric: str, given: Sequence[str], folder: Path) -> str:
    """Writes trials.csv and search.svg; returns the best trials as a table, and the command of the best."""
    trials = [
        trial for trial in study.get_trials() if trial.state != TrialState.WAITING and REPEATS not in trial.user_attrs
    ]
    write_text(folder / "trials.csv", _csv(trials, metric))
    finished = sorted((each for each in trials if each.state == TrialState.COMPLETE), key=lambda each: -_value(each))
    if not finished:
        return f"no trial has finished; {folder / 'trials.csv'} says how each ended"
    _draw(trials, finished, metric, folder / "search.svg")
    rows = [f"{'trial':>6}{metric:>12}  options"]
    rows += [
        f"{each.number:>6}{_value(each):>12.4f}  {' '.join(as_options(each.params))}" for each in finished[:_SHOWN]
    ]
    ended = {state: sum(each.state == state for each in trials) for state in (TrialState.PRUNED, TrialState.FAIL)}
    counts = f"{len(finished)} finished, {ended[TrialState.PRUNED]} pruned, {ended[TrialState.FAIL]} failed"
    best = for_shell(*given, *as_options(finished[0].params))
    return "\n".join([*rows, counts, f"the best: python launch/train.py {best}", f"folder: {folder}"])


def _value(trial: FrozenTrial) -> float:
    """The best of a trial's validations; nan if it had none."""
    return trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=math.nan)


def _csv(trials: Sequence[FrozenTrial], metric: str) -> str:
    keys = sorted({key for trial in trials for key in trial.params})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", metric, "validations", "seconds", *keys, "error"])
    for trial in trials:
        seconds = f"{trial.duration.total_seconds():.1f}" if trial.duration else ""
        numbers = [f"{_value(trial):.6f}", len(trial.intermediate_values), seconds]
        options = [trial.params.get(key, "") for key in keys]
        table.writerow([trial.number, trial.state.name.lower(), *numbers, *options, trial.user_attrs.get("error", "")])
    return text.getvalue()


def _draw(trials: Sequence[FrozenTrial], finished: Sequence[FrozenTrial], metric: str, path: Path) -> None:
    """Plots the metric by trial number and by each option."""
    # Imported here, because the import is slow and a search with a wrong option does not need it.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    keys = sorted(finished[0].params)
    figure, axes = plt.subplots(1, 1 + len(keys), figsize=(3.2 * (1 + len(keys)), 3), sharey=True, squeeze=False)
    for axis, key in zip(axes[0], [None, *keys], strict=True):
        for state, colour, label in ((TrialState.PRUNED, "#b8c0c8", "pruned"), (TrialState.COMPLETE, "#0072B2", "run")):
            shown = [trial for trial in trials if trial.state == state]
            across = [trial.number if key is None else trial.params.get(key) for trial in shown]
            axis.scatter(across, [_value(trial) for trial in shown], s=14, c=colour, label=label)
        axis.set_xlabel("trial" if key is None else key)
        distribution = None if key is None else finished[0].distributions[key]
        if isinstance(distribution, FloatDistribution) and distribution.log:
            axis.set_xscale("log")
    axes[0][0].set_ylabel(metric)
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
