"""What happens before hydra composes a config, so that the ranks of a run agree; and how a command starts ranks.

Facts behind it (measured): each rank composes its own config, so a time stamp in the run folder differs between them;
a process group made anew in each job of a sweep under one torchrun hangs at the second job.
"""

import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml
from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from launch.arguments import for_shell, key_of, override, read_arguments, value_of

_STAMP = "ADVKGE_STAMP"


def is_rank() -> bool:
    """Whether this process is one of several that an agent (torchrun, or ours) started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank_number() -> int:
    """This process's rank; 0 if it is the only one."""
    return int(os.environ["RANK"]) if is_rank() else 0


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
    # torchrun's own store; it outlives an elastic restart, so that a second attempt finds the first one's folder.
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)
    return store.compare_set("advkge/stamp", "", now).decode()


def _continue_run(arguments: list[str]) -> list[str]:
    """With `resume=RUN`, the options that RUN was started with come first, so that they need not be typed again."""
    given = {key_of(argument) for argument in arguments}
    resumed = [value_of(argument) for argument in arguments if key_of(argument) == "resume"]
    run = resumed[-1] if resumed else None
    if not run or not (file := Path(run) / "overrides.yaml").is_file():
        return arguments
    # Where the graph was found, which another choice of graph need not know.
    dropped = given | {"graph.root"} if "graph" in given else given
    kept = [line for line in _saved_overrides(file) if key_of(line) not in dropped]
    folder = [] if "hydra.run.dir" in given else [override("hydra.run.dir", run)]
    return [*kept, *folder, *arguments]


def _saved_overrides(file: Path) -> list[str]:
    """The options that a run was started with; its folder may come from someone else, so they may not name code."""
    try:
        lines = [str(line) for line in yaml.safe_load(file.read_text()) or []]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise SystemExit(f"error: resume: {file} is damaged: {' '.join(str(error).split())}") from error
    for line in lines:
        if line.startswith("-") or key_of(line).startswith("hydra") or "_target_" in line:
            raise SystemExit(
                f"error: resume: {file} may hold options of the run alone, no hydra or _target_, got {line}"
            )
    return lines


def run_ranks(script: Path, overrides: Sequence[str], folder: Path, ranks: int) -> str | None:
    """Runs a script as `ranks` processes under an elastic agent of their own, and waits.

    Returns:
        What went wrong, naming the rank that failed first; None if nothing did.
    """
    # As torchrun does: without it each rank would start a thread for every core.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    arguments = [*overrides, override("hydra.run.dir", str(folder))]
    try:
        elastic_launch(launch, sys.executable)(str(script), *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        cause = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        return f"rank {rank} (pid {failure.pid}) failed first, with {cause}"
    return None
