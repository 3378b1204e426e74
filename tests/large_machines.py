"""`python -m tests.large_machines FOLDER`: two machines on a large graph beside one process, as a row of a table.

FOLDER has a graph of `python -m benchmarks.large_graph`. The machines are Linux namespaces with a disk each, joined by
a network, so this needs root; `/dev/shm` of each is small, so their ranks exchange rows by sockets. Each of the two
runs is killed after some steps, before it saves a checkpoint. Beside FOLDER there must be room for the two run folders.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.large_runs import COMMON, SHARED
from benchmarks.same_lines import compare, lines_by_step
from tests.machines import machines, why_no_machines
from tests.nodes import ROOT

_LOG_EVERY = 5
_SCRIPT = str(ROOT / "launch/train.py")
_TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
    *("--rdzv-backend=c10d", "--rdzv-endpoint=machine1:29400"),
)


def main() -> None:
    """The command; exits with 1 if the runs differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.large_machines", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the large graph")
    parser.add_argument("--steps", type=int, default=30, help="of each run (default: %(default)s)")
    options = parser.parse_args()
    if options.steps < _LOG_EVERY:
        parser.error(
            f"--steps must be at least {_LOG_EVERY}, which is the steps between two lines, got {options.steps}"
        )
    if (reason := why_no_machines()) is not None:
        parser.error(f"this computer can't make machines: it {reason}")
    words = [
        *("graph=folder", f"graph.path={options.folder.resolve()}", *COMMON, *SHARED, "loss=softmax"),
        *("trainer.epochs=1000", "trainer.checkpoint_minutes=0", "launch.device=cpu"),
        *("trainer.log_digests=true", f"trainer.log_every={_LOG_EVERY}"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir=options.folder.resolve().parent) as place:
        one = _one_process(Path(place) / "one", words, environment, options.steps)
        two = _two_machines(Path(place) / "two", words, environment, options.steps)
        same = compare(two, one)
    print(f"| two machines beside one process | {same.cells} |")
    if not same.are_equal:
        sys.exit(1)


def _one_process(folder: Path, words: Sequence[str], environment: Mapping[str, str], steps: int) -> Path:
    """Trains so many steps in one process; its run folder."""
    folder.mkdir()
    said = folder / "said"
    with said.open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, _SCRIPT, *words, f"hydra.run.dir={folder}/run"], stdout=out, stderr=out, env=environment
        )
    try:
        _wait_for_line(steps, [folder / "run"], [run], said.read_text)
    finally:
        run.kill()
        run.wait()
    return folder / "run"


def _two_machines(folder: Path, words: Sequence[str], environment: Mapping[str, str], steps: int) -> Path:
    """Trains so many steps on two machines; the run folder of the one that has the first rank."""
    folder.mkdir()
    with machines(folder, 2) as made:
        for machine in (1, 2):
            command = [*_TORCHRUN, _SCRIPT, *words, f"hydra.run.dir={made.disk}/run"]
            made.start(machine, command, environment, folder)
        runs = [made.disk_of(machine) / "run" for machine in (1, 2)]
        return _wait_for_line(steps, runs, list(made.running.values()), lambda: made.said(1) + made.said(2))


def _wait_for_line(
    steps: int, runs: Sequence[Path], processes: Sequence[subprocess.Popen[bytes]], said: Callable[[], str]
) -> Path:
    """Waits until one of the run folders has the line of so many steps; that folder.

    Raises:
        RuntimeError: a process ended before.
    """
    while True:
        for run in runs:
            if (run / "metrics.jsonl").exists() and max(lines_by_step(run), default=0) + _LOG_EVERY > steps:
                return run
        if any(process.poll() is not None for process in processes):
            raise RuntimeError(f"a run ended before step {steps}:\n{said()}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
