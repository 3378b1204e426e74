"""Starts commands of launch/ from a process that has made their imports, which takes seconds each time otherwise."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

from tests.ranks import new_process


class WarmPopen:
    """Has what launch/ uses of `subprocess.Popen`: `python launch/NAME.py ...` runs in a process of its own.

    It is a child of the server of ranks (tests/ranks.py), so the server's death ends it, not that of its starter.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        # A connection is what multiprocessing hands over with its file descriptor.
        output, errors = (
            Connection(os.dup(place if given is None else given.fileno()), readable=False)
            for place, given in ((1, stdout), (2, stderr))
        )
        self._process = new_process(
            _run, command[1:], dict(os.environ if env is None else env), str(Path.cwd()), output, errors
        )
        self._process.start()
        output.close()
        errors.close()
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            assert self.pid is not None
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "WarmPopen":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.wait()


def _run(words: list[str], environment: dict[str, str], folder: str, output: Connection, errors: Connection) -> None:
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    sys.argv = words
    importlib.import_module(f"launch.{Path(words[0]).stem}").main()


def children_of(process: WarmPopen) -> list[int]:
    """The ids of the processes that a process has started."""
    return [
        int(pid) for path in Path(f"/proc/{process.pid}/task").glob("*/children") for pid in path.read_text().split()
    ]


def is_running(pid: int) -> bool:
    """False for a process that has ended, also if nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    """Waits until `holds()` is true; fails after so many seconds, which are many because machines may be busy."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} seconds"
        time.sleep(0.02)
