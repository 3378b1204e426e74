"""Signals while there is nothing to save: they end the command at once, without a traceback."""

import ctypes
import os
import signal
import sys
from types import FrameType

AGENT = "ADVKGE_AGENT"
"""Environment variable with the process id of launch/agent.py, for the ranks that it started."""
_PR_SET_PDEATHSIG = 1


def end_at_signals(hint: str | None = None) -> None:
    """Lets SIGTERM and SIGINT end this process with exit code 128 + signal. Call it first: imports take seconds.

    One of several ranks dies by the signal itself, also within a collective, and the launcher reports it. If the
    launcher is killed, Linux sends its ranks SIGTERM, so that they do not go on without it.

    Args:
        hint: is printed when a signal arrives.
    """

    def end(number: int, _: FrameType | None) -> None:
        if hint is not None:
            print(f"stopped by signal {number}; {hint}", flush=True)
        sys.stderr.flush()
        os._exit(128 + number)  # skips finally and atexit, which might wait for what was just interrupted

    is_rank = "RANK" in os.environ
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if is_rank else end)
    if is_rank and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ.get(AGENT, os.getppid())):  # the launcher was killed before prctl was called
            os._exit(128 + signal.SIGTERM)
