"""What ends a run of several ranks is said once, by whoever saw it first: a rank, or the process that started them.

The first to say something writes it into the store of the launcher (torchrun's, or ours), where all others see that it
was said. A rank that only notices that another one is gone waits a moment before it speaks: the other may still be
saying why, and our own launcher, which sees how a process ended, always knows better.
"""

import json
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError, Store, TCPStore

from launch.early_signals import AGENT

_MOMENT = 1.0
"""Seconds."""


def is_rank() -> bool:
    """Whether this process is one of several that an agent (torchrun, or ours) started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank_number() -> int:
    """This process's rank; 0 if it is the only one."""
    return int(os.environ["RANK"]) if is_rank() else 0


def launcher_store(seconds: float = 300.0) -> TCPStore:
    """The launcher's store; it outlives an elastic restart, so that a second attempt finds what the first one left."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=seconds))


def may_say(line: str) -> bool:
    """Whether this process is the first to say what ends the run; a run's only process always is."""
    if not is_rank():
        return True
    try:
        first = claim(launcher_store(5.0), line)
    except DistError:  # the launcher is gone, and its store with it
        return True
    if first:
        _tell_torchrun(line)
    return first


def may_say_of_others(line: str) -> bool:
    """The same of what this rank only noticed of the others: our own launcher says that better."""
    if AGENT in os.environ:
        return False
    time.sleep(_MOMENT)
    return may_say(line)


def who_is_lost(reason: str) -> str:
    """One line that names the ranks that have not noticed, in a moment, that others are lost: it is they who are.

    Args:
        reason: what this rank has noticed.
    """
    lost = ""
    try:
        store = launcher_store(5.0)
        store.set(f"{_key()}/noticed by/{rank_number()}", reason)
        time.sleep(_MOMENT)
        ranks = range(int(os.environ["WORLD_SIZE"]))
        lost = " and ".join(f"rank {rank}" for rank in ranks if not store.check([f"{_key()}/noticed by/{rank}"]))
    except DistError:
        pass  # the launcher is gone, and its store with it
    return f"{lost or 'another rank'} does not answer rank {rank_number()}: {reason}"


def claim(store: Store, line: str) -> bool:
    """Whether `line` is now what ends the run, because nobody had said anything before."""
    mine = f"{uuid.uuid4()}\n{line}"
    return store.compare_set(_key(), "", mine).decode() == mine


def claimed(store: Store) -> str | None:
    """What was said, if anything was."""
    said = store.compare_set(_key(), "", "").decode()
    return said.partition("\n")[2] if said else None


def _key() -> str:
    return f"advkge/last line/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _tell_torchrun(line: str) -> None:
    """So that its report at the end has the same line, and not the rank that it happened to look at first."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        Path(file).write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
