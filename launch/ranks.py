"""What happens before hydra composes a config, so that the ranks of a run agree; and how a command starts ranks.

Facts behind it (measured): each rank composes its own config, so a time stamp in the run folder differs between them;
a process group made anew in each job of a sweep under one torchrun hangs at the second job.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from graph.errors import InputError
from launch.agent import Ending, run_processes
from launch.last_line import is_rank, launcher_store, rank_number
from launch.run_folder import check_run_folder
from launch.saved_options import saved_options
from trainer.checkpoint_files import is_file

_STAMP = "ADVKGE_STAMP"
_SWEEP = ("-m", "--multirun")


def prepare_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments for hydra: one run folder for all ranks, hydra's own files written by rank 0 alone.

    Raises:
        SystemExit: a sweep under torchrun, which would hang; says what to type instead.
    """
    arguments = list(arguments)
    others = " ".join(argument for argument in arguments if argument not in _SWEEP)
    ranks = os.environ.get("WORLD_SIZE", "1")
    refuse_sweep(arguments, f"type: python {sys.argv[0]} --multirun launch.ranks={ranks} {others}")
    os.environ[_STAMP] = _agree_on_stamp()
    if rank_number() != 0:
        arguments += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    return arguments if _is_sweep(arguments) else _continue_run(arguments)


def refuse_sweep(arguments: Sequence[str], instead: str) -> None:
    """Ends a sweep under torchrun with one line that says what to do instead."""
    if is_rank() and _is_sweep(arguments):
        if rank_number() == 0:
            print(
                f"error: torchrun can't run a sweep (its process group does not outlive a job); {instead}",
                file=sys.stderr,
            )
        sys.exit(2)


def _is_sweep(arguments: Sequence[str]) -> bool:
    return any(argument in _SWEEP for argument in arguments)


def _agree_on_stamp() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    if not is_rank():
        return now
    return launcher_store().compare_set("advkge/stamp", "", now).decode()


def _continue_run(arguments: list[str]) -> list[str]:
    """With `resume=RUN`, the options that RUN was started with come first, so that they need not be typed again."""
    given = {_key(argument) for argument in arguments}
    resumed = [argument.split("=", 1)[1] for argument in arguments if _key(argument) == "resume"]
    if not resumed:
        return arguments
    run = Path(resumed[-1])
    file, goes_on_in_place = run / "overrides.yaml", "hydra.run.dir" not in given
    if not is_file(file):
        return arguments
    try:
        if goes_on_in_place:
            check_run_folder(run)
        saved, _ = saved_options(file, given)
    except InputError as error:
        raise SystemExit(f"error: resume: {error}") from error
    folder = [f"hydra.run.dir={resumed[-1]}"] if goes_on_in_place else []
    return [*saved, *folder, *arguments]


def _key(argument: str) -> str:
    return argument.split("=", 1)[0].lstrip("+~")


def run_ranks(script: Path, overrides: Sequence[str], folder: Path, ranks: int) -> Ending:
    """Runs a script as `ranks` processes, and waits."""
    arguments = [*overrides, f"hydra.run.dir={folder}"]
    return run_processes([sys.executable, str(script), *arguments], ranks)
