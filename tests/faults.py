"""`python -m tests.faults runs=20 seed=0`: kills runs at random and checks that they end as if unbroken.

Each run has a sampler, a way to be started and a few kills, all drawn from the seed. What is killed: a rank, the
launcher, or one of two nodes of torchrun's elastic launch. When: while it starts, in the middle, or while it saves.
After a kill the same command is typed again, if the launcher has not gone on by itself. Every run must end, and equal
a run of one rank that nobody killed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.nodes import ROOT, WITHOUT_ITS_STORE, free_port, on_this_machine
from tests.same_run import assert_same_run

SAMPLERS = ("uniform", "bernoulli", "kbgan", "nscaching", "mixture")
_WAYS = ("one rank", "two ranks", "three ranks", "two nodes")
_MOMENTS = ("at the start", "in the middle", "while saving")
_SECONDS = 400.0
_OPTIONS = (
    *("recipe=none", "graph.num_people=100", "discriminator.dim=8", "trainer.batch_size=128", "trainer.epochs=10"),
    *("trainer.valid_every=1", "trainer.log_every=2", "trainer.patience=0", "trainer.log_digests=true"),
    *("launch.device=cpu", "resume=auto"),
)


@dataclass(frozen=True)
class Fault:
    """What a run is killed by."""

    target: str
    moment: str
    share: float
    """Of the wait at the start, of the steps in the middle, or which of the ranks."""


class Attempt:
    """A run that is started, and started again until it has ended."""

    def __init__(self, sampler: str, way: str, folder: Path) -> None:
        self.way, self.folder = way, folder
        ranks = 1 + _WAYS.index(way) if way != "two nodes" else 1
        more = [f"generator={sampler}", f"launch.ranks={ranks}", f"hydra.run.dir={folder / 'run'}"]
        self._options = [*_OPTIONS, *more, *(["generator.dim=8"] if sampler == "kbgan" else [])]
        self._port = free_port()
        self._groups: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Starts what does not run."""
        for node in (1, 2) if self.way == "two nodes" else (1,):
            if node not in self._groups or self._groups[node].poll() is not None:
                command = [sys.executable, str(ROOT / "launch/train.py"), *self._options]
                if self.way == "two nodes":
                    command = on_this_machine(self._port, self._options, is_host=node == 1)
                variables = {**os.environ, **WITHOUT_ITS_STORE, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
                with (self.folder / "said").open("ab") as said:
                    group = {"env": variables, "cwd": self.folder, "start_new_session": True}
                    self._groups[node] = subprocess.Popen(command, stdout=said, stderr=said, **group)

    def wait_for(self, fault: Fault) -> None:
        """Waits for the moment of a fault, or until the run has ended."""
        if fault.moment == "at the start":
            time.sleep(8 * fault.share)
        elif fault.moment == "in the middle":
            self._wait(lambda: self._lines() > 20 + 60 * fault.share)
        else:
            checkpoints, seen = self.folder / "run/checkpoints", len(list(self.folder.glob("run/checkpoints/step*")))
            self._wait(lambda: seen + 2 < len(list(checkpoints.glob("step*"))) or any(checkpoints.glob("*.tmp")))

    def hit(self, fault: Fault) -> bool:
        """Kills; false if there was nothing left to kill."""
        node = 2 if self.way == "two nodes" else 1
        process = self._groups[node]
        if process.poll() is not None:
            return False
        if fault.target == "node":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        found = _children(process.pid) if fault.target == "rank" else []
        pid = found[int(fault.share * len(found))] if found else process.pid
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def finish(self) -> int:
        """Starts again what has failed until the run has ended; how often that was."""
        again, deadline = 0, time.monotonic() + _SECONDS
        while True:
            for process in self._groups.values():
                process.wait(max(1.0, deadline - time.monotonic()))
            if (self.folder / "run/result.json").exists() and self._groups[1].returncode == 0:
                return again
            again += 1
            if again > 5:
                raise AssertionError(f"did not end: {(self.folder / 'said').read_text()[-2000:]}")
            self.start()

    def close(self) -> None:
        """Ends what still runs."""
        for process in self._groups.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _lines(self) -> int:
        file = self.folder / "run/metrics.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not holds() and all(process.poll() is None for process in self._groups.values()):
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing happened in {_SECONDS:g} seconds")
            time.sleep(0.002)


def _children(pid: int) -> list[int]:
    """The processes that a process has started; empty if it is gone."""
    try:
        return [int(pid) for path in Path(f"/proc/{pid}/task").glob("*/children") for pid in path.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def draw(source: random.Random) -> tuple[str, str, list[Fault]]:
    """A sampler, a way to start, and one to three faults."""
    sampler, way = source.choice(SAMPLERS), source.choice(_WAYS)
    targets = {"one rank": ["launcher"], "two nodes": ["rank", "launcher", "node"]}.get(way, ["rank", "launcher"])
    faults = [
        Fault(source.choice(targets), source.choice(_MOMENTS), source.random()) for _ in range(source.randint(1, 3))
    ]
    return sampler, way, faults


def run(sampler: str, way: str, faults: list[Fault], folder: Path, unbroken: Path | None) -> tuple[int, int]:
    """One run of the campaign.

    Returns:
        How many kills hit, and how often the command was typed again after the last.
    Raises:
        AssertionError: the run did not end, or differs from the unbroken one.
    """
    folder.mkdir()
    attempt, hits = Attempt(sampler, way, folder), 0
    try:
        for fault in faults:
            attempt.start()
            attempt.wait_for(fault)
            hits += attempt.hit(fault)
        attempt.start()
        again = attempt.finish()
    finally:
        attempt.close()
    if unbroken is not None:
        assert_same_run(folder / "run", unbroken / "run")
    return hits, again


def main() -> None:
    """The command; exits with 1 if a run was lost or differs."""
    options = dict(word.split("=") for word in sys.argv[1:])
    runs, source = int(options.pop("runs", "20")), random.Random(int(options.pop("seed", "0")))
    if options:
        sys.exit(f"error: options are runs and seed, got {', '.join(options)}")
    told: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="faults_"))
    for number in range(runs):
        sampler, way, faults = draw(source)
        unbroken = place / sampler
        if not unbroken.exists():
            run(sampler, "one rank", [], unbroken, None)
        said = ", ".join(f"{fault.target} {fault.moment}" for fault in faults)
        began = time.monotonic()
        try:
            hits, again = run(sampler, way, faults, place / str(number), unbroken)
        except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
            told["failed"] += 1
            print(f"{number}: {sampler}, {way}; {said}: FAILED: {error}", flush=True)
            continue
        told.update(ended=1, kills=hits)
        seconds = time.monotonic() - began
        print(f"{number}: {sampler}, {way}; {said}: {hits} hit, typed again {again}, {seconds:.0f} s", flush=True)
        shutil.rmtree(place / str(number))
    print(f"{told['ended']} of {runs} runs ended as if unbroken after {told['kills']} kills; {told['failed']} failed")
    if told["failed"]:
        sys.exit(f"error: their folders are in {place}")
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
