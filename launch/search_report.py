"""What a search ends with: a table of its trials, a plot, and the command of the best trial."""

import math
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from launch.arguments import for_shell
from launch.search_space import as_options
from launch.this_command import other_command
from reporting.files import write_text
from reporting.search_table import Trial, best_first, draw_search, search_csv, search_table

REPEATS = "repeats"
"""Attribute of a trial that was not run, because its options are those of an earlier one: the number of that one."""


def run_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended, without failed ones and repeats."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in ended if REPEATS not in trial.user_attrs]


def write_report(study: optuna.Study, metric: str, given: Sequence[str], folder: Path) -> str:
    """Writes trials.csv and search.svg; returns the best trials as a table, and the command of the best."""
    found = study.get_trials()
    trials = [_trial(each) for each in found if each.state != TrialState.WAITING and REPEATS not in each.user_attrs]
    write_text(folder / "trials.csv", search_csv(trials, metric))
    best = best_first(trials)
    if not best:
        return f"no trial has finished; {folder / 'trials.csv'} says how each ended"
    distributions = {key: each for trial in found for key, each in trial.distributions.items()}
    logarithmic = [key for key, each in distributions.items() if isinstance(each, FloatDistribution) and each.log]
    write_text(folder / "search.svg", draw_search(trials, metric, logarithmic))
    options = [as_options(dict(trial.options)) for trial in best]
    command = for_shell(*other_command("train"), *given, *options[0])
    table = search_table(trials, metric, [" ".join(typed) for typed in options])
    return f"{table}\nthe best: {command}\nfolder: {folder}"


def _trial(trial: FrozenTrial) -> Trial:
    validations = trial.intermediate_values
    return Trial(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value if trial.value is not None else max(validations.values(), default=math.nan),
        validations=len(validations),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        options=trial.params,
        error=trial.user_attrs.get("error", ""),
    )
