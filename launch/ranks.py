"""What happens before hydra composes a config, so that the ranks of a run agree; and how a command starts ranks.

Facts behind it (measured): each rank composes its own config, so a time stamp in the run folder differs between them;
a process group made anew in each job of a sweep under one torchrun hangs at the second job.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from graph.errors import InputError
from launch.agent import Ending, run_processes
from launch.arguments import for_shell, key_of, override, read_arguments, value_of
from launch.last_line import is_rank, launcher_store, rank_number
from launch.run_folder import check_run_folder
from launch.saved_options import saved_options
from trainer.checkpoint_files import is_file

_STAMP = "ADVKGE_STAMP"


def prepare_arguments(words: Sequence[str]) -> list[str]:
    """The arguments for hydra: one run folder for all ranks, hydra's own files written by rank 0 alone.

    Raises:
        InputError: an argument that hydra would not read as it was meant.
        SystemExit: a sweep under torchrun, which would hang; says what to type instead.
    """
    refuse_sweep(words, alone=False)
    arguments = read_arguments(words)
    os.environ[_STAMP] = _agree_on_stamp()
    overrides = arguments.overrides if arguments.is_sweep else _continue_run(arguments.overrides)
    if rank_number() != 0:
        overrides = [*overrides, "hydra/job_logging=none", "hydra/hydra_logging=none"]
    return replace(arguments, overrides=overrides).as_list()


def refuse_sweep(words: Sequence[str], *, alone: bool) -> None:
    """Ends a sweep under torchrun with one line that says what to type instead.

    Args:
        alone: whether the command runs in one process without torchrun, so that no `launch.ranks` is needed.
    """
    if not is_rank():
        return
    arguments = read_arguments(words)
    if not arguments.is_sweep:
        return
    ranks = [] if alone else [f"launch.ranks={os.environ['WORLD_SIZE']}"]
    others = [line for line in arguments.overrides if alone or key_of(line) != "launch.ranks"]
    if rank_number() == 0:
        instead = for_shell("python", sys.argv[0], "--multirun", *ranks, *others)
        print(
            f"error: torchrun can't run a sweep (its process group does not outlive a job); type: {instead}",
            file=sys.stderr,
        )
    sys.exit(2)


def _agree_on_stamp() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    if not is_rank():
        return now
    return launcher_store().compare_set("advkge/stamp", "", now).decode()


def _continue_run(arguments: list[str]) -> list[str]:
    """With `resume=RUN`, the options that RUN was started with come first, so that they need not be typed again."""
    given = {key_of(argument) for argument in arguments}
    resumed = [value_of(argument) for argument in arguments if key_of(argument) == "resume"]
    run = Path(resumed[-1]) if resumed and resumed[-1] else None
    if run is None or not is_file(run / "overrides.yaml"):
        return arguments
    goes_on_in_place = "hydra.run.dir" not in given
    try:
        if goes_on_in_place:
            check_run_folder(run)
        # Where the graph was found, which another choice of graph need not know.
        saved, _ = saved_options(run / "overrides.yaml", given | {"graph.root"} if "graph" in given else given)
    except InputError as error:
        raise SystemExit(f"error: resume: {error}") from error
    folder = [override("hydra.run.dir", str(run))] if goes_on_in_place else []
    return [*saved, *folder, *arguments]


def run_ranks(script: Path, overrides: Sequence[str], folder: Path, ranks: int) -> Ending:
    """Runs a script as `ranks` processes, and waits."""
    arguments = [*overrides, override("hydra.run.dir", str(folder))]
    return run_processes([sys.executable, str(script), *arguments], ranks)
