"""Commands of torchrun's elastic launch, with short waits, and a hold on the processes that they start."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.warm_start import wait_until

ROOT = Path(__file__).parents[1]
WITHOUT_ITS_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""torch 2.13 never tells a node that joins later where the store is that its launchers share."""


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def elastic(
    endpoint: str, options: Sequence[str], *flags: str, is_host: bool, script: Path = ROOT / "launch/train.py"
) -> list[str]:
    """The command of one of one to two nodes with a rank each. A node counts as lost after 3 seconds without a sign.

    Args:
        endpoint: host and port of the rendezvous.
        options: of launch/train.py.
        flags: further ones of torchrun.
        is_host: whether this node has the rendezvous, which ends with it.
        script: that of a rank.
    """
    times = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3"
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes=1:2", "--max-restarts=5", "--nproc-per-node=1", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint={endpoint}", f"--rdzv-conf={times},is_host={int(is_host)}"),
        *(*flags, str(script), *options),
    ]


def on_this_machine(
    port: int, options: Sequence[str], *, is_host: bool, script: Path = ROOT / "launch/train.py"
) -> list[str]:
    """The same for nodes that are all on this machine."""
    return elastic(f"127.0.0.1:{port}", options, "--local-addr=127.0.0.1", is_host=is_host, script=script)


@contextlib.contextmanager
def held_until_told_to_end(launcher: int) -> Iterator[None]:
    """Holds the rank that a torchrun has started, until torchrun tells it to end.

    Without this, a run may be at its end before a node that was started meanwhile has joined.

    Args:
        launcher: process id of torchrun.
    """
    rank = _rank_of(launcher)
    os.kill(rank, signal.SIGSTOP)
    try:
        yield
        wait_until(lambda: _has_been_sent(rank, signal.SIGTERM))
    finally:
        os.kill(rank, signal.SIGCONT)


def _rank_of(launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (rank,) = (int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes())
    return rank


def _has_been_sent(process: int, number: signal.Signals) -> bool:
    """Whether a held process has a signal waiting. A process that has ended has none: an error."""
    status = Path(f"/proc/{process}/status").read_text()
    (waiting,) = (line for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(waiting.split()[1], 16) >> (number - 1) & 1)
