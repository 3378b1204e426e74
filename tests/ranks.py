"""Runs a function on several ranks: real processes that talk through gloo."""

import multiprocessing
import multiprocessing.forkserver
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from embedding.exchange import share_memory

_SECONDS = 120
_ROOT = Path(__file__).parents[1]
# The server imports what ranks need once, and each rank is a copy of it. A copy of the test's own process won't do:
# autograd refuses to run in one.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.warm_rank"])


def run_on_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Calls `function(rank, world_size, *args)` on every rank of a gloo process group; returns their results by rank.

    Raises:
        RuntimeError: a rank raised, died or took too long; with the traceback of the first rank that raised.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = [new_process(_run, rank, world_size, folder, function, args) for rank in range(world_size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(_SECONDS)
        exit_codes = [process.exitcode for process in ranks]
        for process in ranks:
            process.kill()
            process.join()
            process.close()
        if any(exit_codes):
            errors = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
            raise RuntimeError(errors[0].read_text() if errors else f"ranks ended with exit codes {exit_codes}")
        assert all(code == 0 for code in exit_codes), f"took more than {_SECONDS} seconds: {exit_codes}"
        return [torch.load(folder / f"{rank}.result", weights_only=False) for rank in range(world_size)]


def new_process(function: Callable[..., None], *args: Any) -> ForkServerProcess:
    """A process that will call `function(*args)`; it is not started yet."""
    # The server finds our modules from whatever folder the test is in.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        multiprocessing.forkserver.ensure_running()
    return _processes.Process(target=function, args=args)


def _run(rank: int, world_size: int, folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    store = dist.FileStore(str(folder / "store"), world_size)
    try:
        dist.init_process_group(
            "gloo", rank=rank, world_size=world_size, store=store, timeout=timedelta(seconds=_SECONDS // 2)
        )
        share_memory(_SECONDS // 2)
        torch.save(function(rank, world_size, *args), folder / f"{rank}.result")
    except BaseException:
        (folder / f"{rank}.error").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
