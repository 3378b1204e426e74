"""What signals do to a command while there is nothing to save: they end it at once, without a traceback."""

import ctypes
import os
import signal
import sys
from types import FrameType

AGENT = "ADVKGE_AGENT"
"""The process number of our own launcher, for the ranks that it started."""
_PR_SET_PDEATHSIG = 1


def end_at_signals(hint: str | None = None) -> None:
    """SIGTERM and SIGINT end this process with exit code 128 + signal; called first, for imports take seconds.

    A rank of a larger run ends by the signal itself, also within a collective: its launcher gives the exit code and
    says the rest. A launcher that is killed would leave its ranks running; on Linux the kernel sends them SIGTERM.

    Args:
        hint: what the user is told then.
    """

    def end(number: int, _: FrameType | None) -> None:
        if hint is not None:
            print(f"stopped by signal {number}; {hint}", flush=True)
        sys.stderr.flush()
        os._exit(128 + number)  # no finally, no atexit: they might wait for what was just interrupted

    is_rank = "RANK" in os.environ
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if is_rank else end)
    if is_rank and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ.get(AGENT, os.getppid())):  # was killed before the kernel had been asked
            os._exit(128 + signal.SIGTERM)
