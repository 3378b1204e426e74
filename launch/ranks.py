"""Prepares the command line, so that all ranks of a run compose the same config; and starts the ranks.

Each rank composes its own config, so a time stamp in the name of the run folder would differ between them. A sweep
under torchrun is refused: a process group that is made again for the second job hangs.
"""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from graph.errors import InputError
from launch.agent import Ending, run_processes
from launch.arguments import AUTO, for_shell, key_of, override, read_arguments, value_of
from launch.last_line import is_rank, launcher_store, may_say, rank_number
from launch.own_targets import CONF
from launch.run_folder import check_run_folder
from launch.saved_options import saved_options
from launch.this_command import this_command
from trainer.checkpoint_files import is_file

_STAMP = "ADVKGE_STAMP"
_PRETRAINING = ("pretrain.generator.epochs", "pretrain.discriminator.epochs")
MOST_RANKS = 1024
"""Most ranks on one machine. More must be a mistake, and would start as many processes before anything fails."""


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
    """With `resume=RUN` or `grow.run=RUN`, puts RUN's options in front of those that were typed now."""
    given = {key_of(argument) for argument in arguments}
    arguments = _resume_by_itself(arguments)
    goes_on = _folder_in(arguments, "resume")
    run = goes_on or _folder_in(arguments, "grow.run")
    if run is None or not is_file(run / "overrides.yaml"):
        return arguments
    in_place = goes_on is not None and "hydra.run.dir" not in given
    try:
        if in_place or goes_on == _folder_in(arguments, "hydra.run.dir"):
            check_run_folder(run)
        saved, _ = saved_options(run / "overrides.yaml", given)
        if goes_on is not None:
            saved = _without_another_graph(run, saved, arguments)
        else:
            saved = _for_a_larger_graph(saved, given)
    except InputError as error:
        raise SystemExit(f"error: {'grow.run' if goes_on is None else 'resume'}: {error}") from error
    saved = [line for line in saved if not key_of(line).startswith("grow.")]  # how RUN itself began
    if "recipe" in given:  # it names another model
        saved = [line for line in saved if key_of(line) != "discriminator"]
    if not {"recipe", "experiment"} & {*given, *map(key_of, saved)}:
        saved = ["recipe=none", *saved]  # a run of a version before recipes
    folder = [override("hydra.run.dir", str(run))] if in_place else []
    return [*saved, *folder, *arguments]


def _resume_by_itself(arguments: list[str]) -> list[str]:
    """With `resume=auto`, names the run folder if this machine sees a run there. All ranks agree on it later."""
    if [value_of(line) for line in arguments if key_of(line) == "resume"][-1:] != [AUTO]:
        return arguments
    folder = _folder_in(arguments, "hydra.run.dir")
    if folder is None:
        raise InputError(
            "resume=auto goes on with the run in hydra.run.dir, which must be typed: without it, each start has a new "
            "folder"
        )
    if not is_file(folder / "checkpoints" / "latest.json"):
        return arguments
    return [*(line for line in arguments if key_of(line) != "resume"), override("resume", str(folder))]


def _folder_in(arguments: Sequence[str], key: str) -> Path | None:
    """The folder that an option names; None if it is not typed, or null."""
    values = [value_of(argument) for argument in arguments if key_of(argument) == key]
    return Path(values[-1]) if values and values[-1] else None


def _for_a_larger_graph(saved: list[str], given: Collection[str]) -> list[str]:
    """The options of a run for one that begins with its models: without pre-training, on the graph that is typed."""
    others = ("pretrain.", "graph.") if "graph" in given else ("pretrain.",)
    kept = [line for line in saved if not key_of(line).startswith(others)]
    return [*kept, *(f"{key}=0" for key in _PRETRAINING if key not in given)]


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
