"""Runs that are killed and started again: on one machine, as two nodes of torchrun, or on two machines of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machines import Machines, machines, why_no_machines
from tests.nodes import ROOT, WITHOUT_ITS_STORE, elastic, free_port, on_this_machine

WAYS = ("one rank", "two ranks", "three ranks", "two nodes", *(["two machines"] if why_no_machines() is None else []))
MOMENTS = ("at the start", "in the middle", "while saving")
A_SHARD = "while a shard is written"
_SECONDS = 400.0
LARGE = "large on disk"
_OPTIONS = (
    *("recipe=none", "trainer.valid_every=1", "trainer.log_every=2", "trainer.patience=0"),
    *("trainer.log_digests=true", "launch.device=cpu", "resume=auto"),
)
_FAMILIES = ("graph.num_people=100", "discriminator.dim=8", "trainer.batch_size=128", "trainer.epochs=10")
TABLES = {
    "in memory": _FAMILIES,
    "saved in the background": _FAMILIES,
    # Rows of 32 kB: there is time to be killed while a shard is written.
    "on disk": (
        *(*_FAMILIES, "discriminator=distmult", "discriminator.dim=8000", "optimizer=lazy_adam"),
        *("placement.storage=disk", "placement.shards=4", "placement.resident=2", "trainer.batch_size=256"),
        "trainer.epochs=4",
    ),
    # 228 MB of rows and state, in few batches: most of the time shards come and go, or are saved.
    LARGE: (
        *("discriminator=distmult", "discriminator.dim=64", "optimizer=lazy_adam", "optimizer.lr=0.01"),
        *("loss=softmax", "trainer.batch_size=16384", "trainer.chunk_size=256", "trainer.epochs=3"),
        *("trainer.valid_sample=50", "trainer.checkpoint_minutes=0.05"),
        *("placement.storage=disk", "placement.shards=8", "placement.resident=4"),
    ),
}
"""How the table of a run is kept, and its options."""
SAMPLERS = {
    "in memory": ("uniform", "bernoulli", "kbgan", "nscaching", "mixture"),
    "saved in the background": ("uniform", "bernoulli", "kbgan", "nscaching", "mixture"),
    "on disk": ("uniform", "bernoulli", "kbgan", "in_batch"),
    LARGE: ("uniform", "bernoulli", "kbgan", "in_batch"),
}
_OF_SAMPLERS = {"kbgan": ("generator.dim=8",), "in_batch": ("trainer.chunk_size=8",)}
_ON_DISK = {"kbgan": ("optimizer@generator.optimizer=lazy_adam",)}
_WITH_FEW_BATCHES = {
    "uniform": ("generator.num_negatives=32",),
    "bernoulli": ("generator.num_negatives=32",),
    "kbgan": ("pretrain.generator.epochs=1", "pretrain.discriminator.epochs=1", "trainer.epochs=2"),
}
_SECONDS_OF_START = {LARGE: 20.0}
"""How long a start may take; of others 8."""


@dataclass(frozen=True)
class Fault:
    """What a run is killed by."""

    target: str
    moment: str
    share: float
    """Of the wait at the start, of the steps in the middle, or which of the ranks."""


class Attempt:
    """A run that is started, and started again until it has ended; see `attempt`."""

    def __init__(self, table: str, sampler: str, way: str, folder: Path, apart: Machines | None) -> None:
        self.table, self.way, self.folder, self._apart = table, way, folder, apart
        ranks = self._ranks = WAYS.index(way) + 1 if way.endswith(("rank", "ranks")) else 1
        place = folder if apart is None else apart.disk
        more = [f"generator={sampler}", f"launch.ranks={ranks}", f"hydra.run.dir={place / 'run'}"]
        is_on_disk = table in ("on disk", LARGE)
        of_sampler = [*_OF_SAMPLERS.get(sampler, ()), *(_ON_DISK.get(sampler, ()) if is_on_disk else ())]
        if table == LARGE:
            of_sampler += [*_WITH_FEW_BATCHES.get(sampler, ()), "graph=folder", f"graph.path={folder.parent / 'graph'}"]
        self._options = [*_OPTIONS, *TABLES[table], *of_sampler, *more]
        self._script = ROOT / ("tests/small_copies.py" if table == "saved in the background" else "launch/train.py")
        self._port = free_port()
        self._here: dict[int, subprocess.Popen[bytes]] = {}
        self._nodes = (1,) if way.endswith(("rank", "ranks")) else (1, 2)

    @property
    def result(self) -> Path:
        """The folder of the run: that with the result, if each machine has its own."""
        return next((run for run in self._runs if (run / "result.json").exists()), self._runs[0])

    @property
    def _runs(self) -> list[Path]:
        apart = self._apart
        return [self.folder / "run"] if apart is None else [apart.disk_of(node) / "run" for node in self._nodes]

    @property
    def _processes(self) -> dict[int, subprocess.Popen[bytes]]:
        return self._here if self._apart is None else self._apart.running

    def start(self) -> None:
        """Starts what does not run."""
        environment = {**os.environ, **WITHOUT_ITS_STORE, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        for node in self._nodes:
            if node in self._processes and self._processes[node].poll() is None:
                continue
            command = self._command(node)
            if self._apart is not None:
                self._apart.start(node, command, environment, self.folder)
                continue
            with (self.folder / f"said_{node}").open("ab") as said:
                self._here[node] = subprocess.Popen(
                    command, stdout=said, stderr=said, env=environment, cwd=self.folder, start_new_session=True
                )

    def _command(self, node: int) -> Sequence[str]:
        if self._apart is not None:
            return elastic("machine1:29400", self._options, is_host=node == 1, script=self._script)
        if len(self._nodes) > 1:
            return on_this_machine(self._port, self._options, is_host=node == 1, script=self._script)
        return [sys.executable, str(self._script), *self._options]

    def wait_for(self, fault: Fault) -> None:
        """Waits for the moment of a fault, or until the run has ended."""
        if fault.moment == "at the start":
            time.sleep(_SECONDS_OF_START.get(self.table, 8.0) * fault.share)
        elif fault.moment == "in the middle":
            self._wait(
                lambda: self._lines() > (20 + 60 * fault.share if self.table == "in memory" else 30 * fault.share)
            )
        elif fault.moment == A_SHARD:
            begin = self._lines() + 5 * fault.share
            self._wait(lambda: self._lines() > begin)
            self._wait(self._writes_a_shard())
        elif self.table == LARGE:
            # A file for each shard of each rank, one of other tensors, and the manifest.
            parts = int(fault.share * (8 * self._ranks + 2))
            self._wait(lambda: len(self._checkpoints("*.tmp/*")) > parts)
        else:
            seen = len(self._checkpoints("step*"))
            self._wait(lambda: seen + 2 < len(self._checkpoints("step*")) or bool(self._checkpoints("*.tmp")))

    def hit(self, fault: Fault) -> bool:
        """Kills; false if there was nothing left to kill."""
        node = self._nodes[-1]
        if self._processes[node].poll() is not None:
            return False
        if fault.target == "node":
            if self._apart is not None:
                self._apart.kill(node)
            else:
                os.killpg(self._here[node].pid, signal.SIGKILL)
                self._here[node].wait()
            return True
        launcher = self._launcher(node)
        found = _children(launcher) if fault.target == "rank" else []
        try:
            os.kill(found[int(fault.share * len(found))] if found else launcher, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _launcher(self, node: int) -> int:
        return self._here[node].pid if self._apart is None else self._apart.first_process_of(node)

    def finish(self) -> int:
        """Starts again what has failed until the run has ended; how often that was."""
        again, deadline = 0, time.monotonic() + _SECONDS
        while True:
            for process in list(self._processes.values()):
                process.wait(max(1.0, deadline - time.monotonic()))
            if (self.result / "result.json").exists() and self._processes[1].returncode == 0:
                return again
            again += 1
            if again > 5:
                raise AssertionError(f"did not end: {self.said()[-2000:]}")
            self.start()

    def said(self) -> str:
        """What the nodes have said."""
        folder = self.folder if self._apart is None else self._apart.folder
        return "\n".join(path.read_text() for path in sorted(folder.glob("said_*")))

    def close(self) -> None:
        """Ends what still runs here."""
        for process in self._here.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _lines(self) -> int:
        files = [run / "metrics.jsonl" for run in self._runs]
        return max((file.read_bytes().count(b"\n") for file in files if file.exists()), default=0)

    def _checkpoints(self, pattern: str) -> list[Path]:
        return [path for run in self._runs for path in run.glob(f"checkpoints/{pattern}")]

    def _writes_a_shard(self) -> Callable[[], bool]:
        """Whether a process has written some of a shard since the last look, and no checkpoint is being written."""
        before: dict[int, int] = {}

        def holds() -> bool:
            launchers = [self._launcher(node) for node in self._nodes]
            grown = False
            for pid in {pid for launcher in launchers for pid in (launcher, *_children(launcher))}:
                written = _written(pid)
                grown |= written - before.get(pid, written) > 1 << 20
                before[pid] = written
            return grown and not self._checkpoints("*.tmp")

        return holds

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while all(process.poll() is None for process in self._processes.values()) and not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing happened in {_SECONDS:g} seconds")
            time.sleep(0.002)


@contextlib.contextmanager
def attempt(table: str, sampler: str, way: str, folder: Path) -> Iterator[Attempt]:
    """Makes a run, which does not run yet; ends at the end what still runs.

    Args:
        table: a key of `TABLES`.
        way: one of `WAYS`. Two machines have a disk each, and a network between them.
        folder: made for it. Beside it is the graph of a large table, which is made if it is not there.
    """
    folder.mkdir()
    if table == LARGE:
        _make_graph(folder.parent / "graph")
    with contextlib.ExitStack() as opened:
        apart = None
        if way == "two machines":
            (folder / "machines").mkdir()
            apart = opened.enter_context(machines(folder / "machines", 2))
        made = Attempt(table, sampler, way, folder, apart)
        opened.callback(made.close)
        yield made


def _make_graph(folder: Path) -> None:
    """A graph of 300,000 entities, few of which are held out."""
    if not folder.exists():
        sizes = ("--entities=300000", "--triples=1000000", "--clusters=100", "--held-out=100")
        command = [sys.executable, "-m", "benchmarks.large_graph", str(folder), *sizes]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _children(pid: int) -> list[int]:
    """The processes that a process has started; empty if it is gone."""
    try:
        return [int(pid) for path in Path(f"/proc/{pid}/task").glob("*/children") for pid in path.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _written(pid: int) -> int:
    """Bytes that a process has written; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar")), 0)
