"""Prints the error that ends a run of several ranks once, by the process that saw it first: a rank or the launcher.

The first process writes its line into the launcher's store (torchrun's, or that of launch/agent.py), so that the
others know that it was printed. A rank that only notices that another rank is gone waits a moment first, because that
rank may still report the cause. Under launch/agent.py it prints nothing, because the agent sees how a process ended.
"""

import json
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from launch.early_signals import has_launcher, launcher_is_gone

if TYPE_CHECKING:  # a process that is no rank ends with its line before torch is imported, which takes seconds
    from torch.distributed import Store, TCPStore

_own_store: "list[TCPStore]" = []
"""The store that this process has for all ranks, if any. torch's own process group takes the same."""
_MOMENT = 1.0
"""Seconds."""


def is_rank() -> bool:
    """True if torchrun or launch/agent.py started this process as one of several ranks."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank_number() -> int:
    """This process's rank; 0 if it is the only one."""
    return int(os.environ["RANK"]) if is_rank() else 0


def launcher_store(seconds: float = 300.0) -> "TCPStore":
    """The launcher's store. It may stay when torchrun restarts the ranks, with what was written before.

    Where the launcher has none, which torchrun says by a variable and other launchers by its absence, rank 0 has it.
    """
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank_number() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and not _own_store:
        _own_store.append(TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True))
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=seconds))


def may_say(line: str) -> bool:
    """True if this process should print the line, because no other has printed what ends the run."""
    if not is_rank() or launcher_is_gone():  # torch would look for the store for 10 seconds, and say so in many lines
        return True
    from torch.distributed import DistError

    try:
        first = claim(launcher_store(5.0), line)
    except DistError:  # the launcher is gone, and its store with it
        return True
    if first:
        _tell_torchrun(line)
    return first


def may_say_of_others(line: str) -> bool:
    """The same for an error of another rank that this one noticed; false under launch/agent.py, which reports it."""
    if has_launcher():
        return False
    time.sleep(_MOMENT)
    return may_say(line)


def who_is_lost(reason: str) -> str:
    """The lost ranks, such as "rank 1": those that do not report a lost connection within a second, as others do.

    Args:
        reason: the error that this rank saw.
    """
    from torch.distributed import DistError

    lost = ""
    try:
        store = launcher_store(5.0)
        store.set(f"{_key()}/noticed by/{rank_number()}", reason)
        time.sleep(_MOMENT)
        ranks = range(int(os.environ["WORLD_SIZE"]))
        lost = " and ".join(f"rank {rank}" for rank in ranks if not store.check([f"{_key()}/noticed by/{rank}"]))
    except DistError:
        pass  # the launcher is gone, and its store with it
    return lost or "another rank"


def claim(store: "Store", line: str) -> bool:
    """Records `line` as what ends the run; false if another line was recorded before."""
    mine = f"{uuid.uuid4()}\n{line}"
    return store.compare_set(_key(), "", mine).decode() == mine


def claimed(store: "Store") -> str | None:
    """The recorded line, if any."""
    said = store.compare_set(_key(), "", "").decode()
    return said.partition("\n")[2] if said else None


def _key() -> str:
    return f"advkge/last line/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _tell_torchrun(line: str) -> None:
    """Makes torchrun's final report show this line, instead of the error of an arbitrary rank."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        Path(file).write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
