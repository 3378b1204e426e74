"""Signals while there is nothing to save: they end the command at once, without a traceback."""

import ctypes
import os
import signal
import sys
from types import FrameType

_LAUNCHER = "ADVKGE_LAUNCHER"
"""Environment variable with the id of the process that started this one: as a rank, or as a run of a search or
scorecard."""
_PR_SET_PDEATHSIG = 1


def end_at_signals(hint: str | None = None) -> None:
    """Lets SIGTERM and SIGINT end this process with exit code 128 + signal. Call it first: imports take seconds.

    One of several ranks dies by the signal itself, also within a collective, and the launcher reports it.

    Args:
        hint: is printed when a signal arrives. Without one, which means at the start, this also arranges that Linux
            sends SIGTERM to a rank, or to a run of a search or scorecard, when its launcher is killed. So it does not
            go on alone.
    """

    def end(number: int, _: FrameType | None) -> None:
        if hint is not None:
            print(f"stopped by signal {number}; {hint}", flush=True)
        sys.stderr.flush()
        os._exit(128 + number)  # skips finally and atexit, which might wait for what was just interrupted

    is_rank = "RANK" in os.environ
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if is_rank else end)
    if hint is None and sys.platform == "linux" and (is_rank or has_launcher()):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ.get(_LAUNCHER, os.getppid())):  # it was killed before prctl was called
            os._exit(128 + signal.SIGTERM)


def launched_from_here() -> dict[str, str]:
    """The environment variables of a process that is to end with this one."""
    return {**os.environ, _LAUNCHER: str(os.getpid())}


def has_launcher() -> bool:
    """True if launch/agent.py started this process as a rank, or a search or scorecard as a run."""
    return _LAUNCHER in os.environ


def launcher_is_gone() -> bool:
    """True if the process that `has_launcher` is about has ended, and was waited for."""
    if not has_launcher():
        return False
    try:
        os.kill(int(os.environ[_LAUNCHER]), 0)
    except ProcessLookupError:
        return True
    return False
