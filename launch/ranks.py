"""What happens before hydra composes a config, so that the ranks of a run agree; and how a command starts ranks.

Facts behind it (measured): each rank composes its own config, so a time stamp in the run folder differs between them;
a process group made anew in each job of a sweep under one torchrun hangs at the second job.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from launch.agent import Ending, run_processes
from launch.last_line import is_rank, launcher_store, rank_number

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
    file = Path(resumed[-1]) / "overrides.yaml" if resumed else None
    if file is None or not file.is_file():
        return arguments
    saved = _saved_overrides(file)
    kept = [line for line in saved if _key(line) not in given]
    folder = [] if "hydra.run.dir" in given else [f"hydra.run.dir={resumed[-1]}"]
    return [*kept, *folder, *arguments]


def _saved_overrides(file: Path) -> list[str]:
    """The options that a run was started with; its folder may come from someone else, so they may not name code."""
    try:
        lines = [str(line) for line in yaml.safe_load(file.read_text()) or []]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise SystemExit(f"error: resume: {file} is damaged: {' '.join(str(error).split())}") from error
    for line in lines:
        if line.startswith("-") or _key(line).startswith("hydra") or "_target_" in line:
            raise SystemExit(
                f"error: resume: {file} may hold options of the run alone, no hydra or _target_, got {line}"
            )
    return lines


def _key(argument: str) -> str:
    return argument.split("=", 1)[0].lstrip("+~")


def run_ranks(script: Path, overrides: Sequence[str], folder: Path, ranks: int) -> Ending:
    """Runs a script as `ranks` processes, and waits."""
    arguments = [*overrides, f"hydra.run.dir={folder}"]
    return run_processes([sys.executable, str(script), *arguments], ranks)
