"""Ranks, devices and signals: where a run runs."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from embedding.exchange import add_over_ranks, share_memory
from graph.batch import Batch
from graph.errors import InputError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_ANY_TIME = timedelta(days=1000)
_AGAIN = 1.0
"""Seconds after which a second signal is meant."""
_LONGEST_WAIT = 10_000_000
"""Seconds, about four months. gloo counts milliseconds in few bits."""
_Result = TypeVar("_Result")


@dataclass
class Runtime:
    """This process among the run's; everything works the same with one, where nothing is communicated."""

    rank: int
    world_size: int
    device: torch.device
    stop_signal: int | None = field(default=None, init=False)
    """The signal that asked this process to stop; see `noting_signals`."""
    _signalled_at: float = field(default=0.0, init=False)
    _patient: dist.ProcessGroup | None = field(default=None, init=False)
    """All ranks again, for what may take any time; None for the usual group."""

    @classmethod
    def start(cls, *, device: str, timeout_seconds: float) -> "Runtime":
        """Joins the process group that the environment describes (torchrun's), or runs alone.

        Args:
            device: "auto" for a GPU where there is one, else "cpu" or "cuda".
            timeout_seconds: how long a rank waits in a collective before it gives the run up.

        Raises:
            InputError: a device that is not there, or a time that is none.
        """
        check_timeout(timeout_seconds)
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        runtime = cls(rank, world_size, _device(device))
        _keep_freed_memory()
        if world_size > 1:
            backend = "nccl" if runtime.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
            if runtime.device.type == "cpu":
                share_memory(timeout_seconds)
            # A rank that dies is noticed all the same, for its connections close.
            runtime._patient = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=_ANY_TIME))
        return runtime

    def close(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This rank's chunks of a global batch, which may be none."""
        mine = batch if self.world_size == 1 else batch.share(self.rank, self.world_size)
        return mine if self.device.type == "cpu" else mine.to(self.device)

    def add(self, value: Tensor) -> Tensor:
        """The sum over all ranks. Collective."""
        return add_over_ranks(value) if self.world_size > 1 else value

    def agree(self, error: str | None, *, patient: bool = False) -> None:
        """Raises on every rank what went wrong on any; None means nothing did. Collective.

        Args:
            patient: wait for the others as long as they live: what they do first may take any time.
        """
        for message in self._all(error, patient=patient):
            if message is not None:
                raise InputError(message)

    def first_then_others(self, action: Callable[[], _Result]) -> _Result:
        """Runs an action on rank 0, then on the others, so that they find what it cached. Collective.

        It may take any time. An error of another type than InputError ends this rank, and with it the run.
        """
        result: list[_Result] = []
        for turn in (True, False):
            error = None
            if self.is_first is turn:
                try:
                    result.append(action())
                except InputError as failure:
                    error = str(failure)
            self.agree(error, patient=True)
        return result[0]

    def agree_on_signal(self) -> int | None:
        """The signal that asked the run to stop, of the first rank that got one. Collective."""
        return next((number for number in self._all(self.stop_signal) if number is not None), None)

    def _all(self, value: _Result, *, patient: bool = False) -> list[_Result]:
        """The small values of all ranks. Collective."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value, group=self._patient if patient else None)
        return values

    @contextmanager
    def noting_signals(self) -> Iterator[None]:
        """Meanwhile SIGTERM and SIGINT are noted in `stop_signal`, for a run that can save and stop by itself.

        A second one, a second later or more, ends a run of one process at once: `timeout` and terminals send some
        twice. Ranks of a larger run get one from the terminal and one from their launcher, which also ends them at once
        if it gets a second one itself.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._note_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note_signal(self, number: int, _: FrameType | None) -> None:
        if self.stop_signal is None:
            self.stop_signal, self._signalled_at = number, time.monotonic()
        elif self.world_size == 1 and time.monotonic() > self._signalled_at + _AGAIN:
            sys.exit(128 + number)


def check_timeout(seconds: float) -> None:
    """Raises InputError for a time that a rank can't wait."""
    if not 0 < seconds <= _LONGEST_WAIT:  # also false for nan
        raise InputError(f"launch.timeout_seconds must be above 0 and at most {_LONGEST_WAIT}, got {seconds}")


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"launch.device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("launch.device is cuda, but torch finds no GPU here; use launch.device=auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"launch.ranks: {local_rank + 1} or more ranks on this machine, but it has {torch.cuda.device_count()} "
            "GPU(s); each rank needs its own, or use launch.device=cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _keep_freed_memory() -> None:
    """Tells glibc to keep a step's freed buffers for the next step.

    By default every tensor of some megabytes is fresh memory from the kernel, whose page faults took half of a step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc allows
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_M_TOP_PAD, 64 << 20)
