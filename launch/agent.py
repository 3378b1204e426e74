"""Starts the ranks of a run on this machine, forwards signals to them, and reports how each of them ended.

It replaces torchrun's elastic agent. At a signal, that agent raises an exception: it kills ranks that take more than
30 seconds to save, prints a traceback, and ends with exit code 1.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from launch.early_signals import launched_from_here
from launch.last_line import claim, claimed

if TYPE_CHECKING:
    from torch.distributed import Store

_LOOK_EVERY = 0.05
_GRACE = 15.0
"""Seconds until the other ranks are killed after one has failed. Unless they hang, they end by themselves."""
_NUDGE = 3.0
"""Seconds until they are sent SIGTERM after one has failed."""
_GRACE_TO_SAVE = 10 * _GRACE
"""Seconds until the other ranks are killed after one has saved and ended: a tracker may still send data."""
_AGAIN = 1.0
"""A second signal kills the ranks only if it comes later than this (seconds): shells and `timeout` send some twice."""
_STOPPING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Ending:
    """How a run of several ranks ended."""

    error: str | None
    """The error, one line, which was already printed; None if there was none."""
    stopped_by: int | None
    """The signal that ended the run early, if any."""
    said_how_to_resume: bool
    asked: int | None
    """The signal that this process received during the run, if any; the run may have finished nevertheless."""


def run_processes(command: Sequence[str], ranks: int) -> Ending:
    """Runs a command once for each rank of a run, and waits until all have ended."""
    from torch.distributed import TCPStore  # not earlier: it takes seconds

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen[bytes]] = []
    with _noting_signals() as asked:
        try:
            for rank in range(ranks):
                processes.append(subprocess.Popen(command, env=_environment(store.port, rank, ranks)))
            first, hanging = _watch(processes, store, asked)
        finally:
            _kill(processes)
    signalled = int(asked[0].number) if asked else None
    if first is None and not (asked and any(process.returncode for process in processes)):
        return Ending(None, None, said_how_to_resume=False, asked=signalled)
    stopped_by = signalled if first is None else _stopping_signal(processes[first])
    if stopped_by is not None:
        said_how = not claim(store, "stopped")
        return Ending(None, signalled or stopped_by, said_how_to_resume=said_how, asked=signalled)
    assert first is not None
    error = _explain(processes, first, hanging)
    if claim(store, error):
        print(f"error: {error}", file=sys.stderr, flush=True)
    return Ending(claimed(store), None, said_how_to_resume=False, asked=signalled)


def _watch(
    processes: Sequence[subprocess.Popen[bytes]], store: "Store", asked: "Sequence[_Signal]"
) -> tuple[int | None, list[int]]:
    """Waits until all ranks have ended.

    Returns:
        The rank that failed first, if any, and the ranks that did not end after that and must be killed.
    """
    first, handed_on, nudge, deadline = None, 0, float("inf"), float("inf")
    while running := [process for process in processes if process.poll() is None]:
        for each in asked[handed_on:]:
            _send(running, each.number)
            handed_on += 1
        if asked and asked[-1].time > asked[0].time + _AGAIN:
            break
        if first is None and (first := _first_failure(processes)) is not None:
            stopped_by = _stopping_signal(processes[first])
            deadline = time.monotonic() + (_GRACE if stopped_by is None else _GRACE_TO_SAVE)
            nudge = time.monotonic() + _NUDGE
            if stopped_by is not None:  # the signal went to one rank: the others must stop too
                _send(running, stopped_by)
            elif processes[first].returncode < 0:
                error = _explain(processes, first, [])
                if claim(store, error):
                    print(f"error: {error}", file=sys.stderr, flush=True)
        if time.monotonic() > nudge:  # ends ranks that are still preparing and can't notice the failure
            _send(running, signal.SIGTERM)
            nudge = float("inf")
        if time.monotonic() > deadline:
            return first, [rank for rank, process in enumerate(processes) if process in running]
        time.sleep(_LOOK_EVERY)
    return (_first_failure(processes) if first is None else first), []


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Of the ranks that have failed, one that a signal ended, or else the lowest."""
    failed = [rank for rank, process in enumerate(processes) if process.returncode]
    return min(failed, key=lambda rank: (processes[rank].returncode > 0, rank), default=None)


def _stopping_signal(process: subprocess.Popen[bytes]) -> int | None:
    """The signal, SIGTERM or SIGINT, that ended a process, whether or not it had something to save."""
    return next((int(each) for each in _STOPPING if process.returncode in (128 + each, -each)), None)


def _explain(processes: Sequence[subprocess.Popen[bytes]], first: int, hanging: Sequence[int]) -> str:
    if hanging:
        names = " and ".join(f"rank {rank} (pid {processes[rank].pid})" for rank in hanging)
        return f"{names} did not answer the other ranks in time (launch.timeout_seconds), and was killed"
    process = processes[first]
    name, code = f"rank {first} (pid {process.pid})", process.returncode
    if code == -signal.SIGKILL:
        return f"{name} was killed by SIGKILL, as the system does when memory runs out"
    return f"{name} was killed by {signal.Signals(-code).name}" if code < 0 else f"{name} ended with exit code {code}"


@dataclass(frozen=True)
class _Signal:
    number: int
    time: float


@contextmanager
def _noting_signals() -> Iterator[list[_Signal]]:
    """Records signals. An exception could leave a rank running that was just being started."""
    asked: list[_Signal] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(_Signal(number, time.monotonic()))

    before = {number: signal.signal(number, note) for number in _STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        process.send_signal(number)  # does nothing if it has ended


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _environment(port: int, rank: int, ranks: int) -> dict[str, str]:
    """The environment variables that torchrun would set for a rank on one machine."""
    return {
        # Without it each rank would start a thread for every core.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks)),
        **launched_from_here(),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
