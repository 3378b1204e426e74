"""Prepares the command line, so that all ranks of a run compose the same config; and starts the ranks.

Each rank composes its own config, so a time stamp in the name of the run folder would differ between them. A sweep
under torchrun is refused: a process group that is made again for the second job hangs.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from graph.errors import InputError
from launch.agent import Ending, run_processes
from launch.arguments import for_shell, key_of, override, read_arguments, value_of
from launch.last_line import is_rank, launcher_store, may_say, rank_number
from launch.own_targets import CONF
from launch.run_folder import check_run_folder
from launch.saved_options import saved_options
from launch.this_command import this_command
from trainer.checkpoint_files import is_file

_STAMP = "ADVKGE_STAMP"


def prepare_arguments(words: Sequence[str]) -> list[str]:
    """The arguments for hydra, with the same run folder on all ranks; only rank 0 writes hydra's own files.

    Raises:
        InputError: an argument that hydra would not read as it was meant.
        SystemExit: a sweep under torchrun; says what to type instead.
    """
    refuse_sweep(words, alone=False)
    arguments = read_arguments(words)
    os.environ[_STAMP] = _agree_on_stamp()
    overrides = arguments.overrides if arguments.is_sweep else _continue_run(arguments.overrides)
    if rank_number() != 0:
        overrides = [*overrides, "hydra/job_logging=none", "hydra/hydra_logging=none"]
    return replace(arguments, overrides=overrides).as_list()


def refuse_sweep(words: Sequence[str], *, alone: bool) -> None:
    """Ends the process if it is a sweep under torchrun, with one line that says what to type instead.

    Args:
        alone: True for a command without the option `launch.ranks`.
    """
    if not is_rank():
        return
    arguments = read_arguments(words)
    if not arguments.is_sweep:
        return
    ranks = [] if alone else [f"launch.ranks={os.environ['WORLD_SIZE']}"]
    others = [line for line in arguments.overrides if alone or key_of(line) != "launch.ranks"]
    instead = for_shell(*this_command(), "--multirun", *ranks, *others)
    line = f"torchrun can't run a sweep (its process group does not outlive a job); type: {instead}"
    if may_say(line):  # the first rank that comes here: torchrun ends the others as soon as one has ended
        print(f"error: {line}", file=sys.stderr, flush=True)
    sys.exit(2)


def _agree_on_stamp() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    if not is_rank():
        return now
    return launcher_store().compare_set("advkge/stamp", "", now).decode()


def _continue_run(arguments: list[str]) -> list[str]:
    """With `resume=RUN`, puts the options that RUN was started with in front of those that were typed now."""
    given = {key_of(argument) for argument in arguments}
    resumed = [value_of(argument) for argument in arguments if key_of(argument) == "resume"]
    run = Path(resumed[-1]) if resumed and resumed[-1] else None
    if run is None or not is_file(run / "overrides.yaml"):
        return arguments
    goes_on_in_place = "hydra.run.dir" not in given
    try:
        if goes_on_in_place:
            check_run_folder(run)
        saved, _ = saved_options(run / "overrides.yaml", given)
        saved = _without_another_graph(run, saved, arguments)
    except InputError as error:
        raise SystemExit(f"error: resume: {error}") from error
    if not {"recipe", "experiment"} & {*given, *map(key_of, saved)}:
        saved = ["recipe=none", *saved]  # a run of a version before recipes
    folder = [override("hydra.run.dir", str(run))] if goes_on_in_place else []
    return [*saved, *folder, *arguments]


def _without_another_graph(run: Path, saved: list[str], arguments: Sequence[str]) -> list[str]:
    """The saved options, without those of the graph if another choice of graph is typed.

    Raises:
        InputError: the run can't have been trained on the graph that is typed.
    """
    typed = [value_of(line) for line in arguments if key_of(line) == "graph"]
    if not typed:
        return saved
    before, _ = saved_options(run / "overrides.yaml", ())
    own = [value_of(line) for line in before if key_of(line) == "graph"] or [_choice_of_conf("graph")]
    if typed[-1] == own[-1]:
        return saved
    if "folder" not in (typed[-1], own[-1]):  # a folder may hold the same graph as before
        raise InputError(f"graph={typed[-1]}: {run} was trained on graph={own[-1]} and goes on with it; leave this out")
    return [line for line in saved if not key_of(line).startswith("graph.")]


def _choice_of_conf(group: str) -> str:
    choices = yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
    return next(each[group] for each in choices if isinstance(each, dict) and group in each)


def run_ranks(script: Path, overrides: Sequence[str], folder: Path, ranks: int) -> Ending:
    """Runs a script as `ranks` processes, and waits until they end."""
    arguments = [*overrides, override("hydra.run.dir", str(folder))]
    return run_processes([sys.executable, str(script), *arguments], ranks)
