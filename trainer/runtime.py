"""The ranks, the device and the signals of a run."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from trainer.near_gpu import bind_near

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_ANY_TIME = timedelta(days=1000)
_AGAIN = 1.0
"""Seconds after the first signal; a second signal that comes later ends the process."""
_LONGEST_WAIT = 10_000_000
"""Seconds, about four months. Longer times overflow gloo's milliseconds."""
_Result = TypeVar("_Result")


@dataclass
class Runtime:
    """This process as one of the ranks of a run. With one rank nothing is communicated.

    "Collective" in a docstring means that all ranks must call the method, at the same point of the run.

    Example: `runtime = Runtime.start(device="auto", timeout_seconds=600)` joins torchrun's ranks, or runs alone;
    `runtime.add(x)` is then the sum of all ranks' `x`.
    """

    rank: int
    world_size: int
    device: torch.device
    stop_signal: int | None = field(default=None, init=False)
    """The signal that asked this process to stop; see `noting_signals`."""
    _signalled_at: float = field(default=0.0, init=False)
    _patient: dist.ProcessGroup | None = field(default=None, init=False)
    """A group of all ranks that waits without a timeout; None with one rank."""

    @classmethod
    def start(cls, *, device: str, timeout_seconds: float) -> "Runtime":
        """Joins the process group that torchrun's environment variables describe; without them it runs alone.

        Args:
            device: "cpu", "cuda", or "auto": a GPU if there is one.
            timeout_seconds: how long a rank waits in a collective before the run fails.

        Raises:
            InputError: there is no such device, or the time is not allowed.
        """
        check_timeout(timeout_seconds)
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        runtime = cls(rank, world_size, _device(device))
        _keep_freed_memory()
        if world_size > 1:
            on_gpu = runtime.device.type == "cuda"
            if on_gpu:
                bind_near(runtime.device)
            # With its device NCCL connects now, and not at the first exchange.
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                timeout=timedelta(seconds=timeout_seconds),
                device_id=runtime.device if on_gpu else None,
            )
            if not on_gpu:
                share_memory(timeout_seconds)
            # A rank that dies is still noticed, because its connections close.
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

    @property
    def on_several_machines(self) -> bool:
        """Whether other launchers, which are mostly on other machines, have started ranks too."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size)) < self.world_size

    def share(self, batch: Batch) -> Batch:
        """This rank's chunks of a global batch, on its device. A rank may get no chunk."""
        mine = batch if self.world_size == 1 else batch.share(self.rank, self.world_size)
        return mine if self.device.type == "cpu" else mine.to(self.device)

    def add(self, value: Tensor) -> Tensor:
        """The sum over all ranks. Collective."""
        return add_over_ranks(value) if self.world_size > 1 else value

    def add_on_hosts(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all ranks of numbers that hosts have, for which no host waits for its GPU. Collective.

        There is no timeout.
        """
        total = torch.tensor(numbers, dtype=torch.float64)
        if self.world_size > 1:
            dist.all_reduce(total, group=self._patient)
        return total.tolist()

    def agree(self, error: str | None, *, patient: bool = False) -> None:
        """Raises InputError on all ranks if one gives an error; the first rank's message is used. Collective.

        Args:
            error: this rank's error; None if it has none.
            patient: wait without a timeout, because other ranks may have long work to do first.
        """
        for message in self.gather(error, patient=patient):
            if message is not None:
                raise InputError(message)

    def first_then_others(self, action: Callable[[], _Result]) -> _Result:
        """Runs an action on rank 0, then on the other ranks, which can use the files it cached. Collective.

        There is no timeout. An InputError of one rank is raised on all ranks. Any other error ends this rank and so the
        run.
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
        """The signal of the first rank that got one; None if no rank did. Collective."""
        return next((number for number in self.gather(self.stop_signal) if number is not None), None)

    def gather(self, value: _Result, *, patient: bool = False) -> list[_Result]:
        """The values of all ranks, by rank: small Python objects. Collective."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value, group=self._patient if patient else None)
        return values

    @contextmanager
    def noting_signals(self) -> Iterator[None]:
        """Within this context, SIGTERM and SIGINT only set `stop_signal`, so that the run can save and stop.

        With one rank, a second signal ends the process at once if it comes more than a second after the first, because
        `timeout` and terminals may send a signal twice. With several ranks, each gets a signal from the terminal and
        another from the launcher, so further ones are ignored here. The launcher ends the ranks if it gets a second.
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
    """Raises InputError unless 0 < seconds <= 10,000,000."""
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
    """Tells glibc to keep the freed buffers of a step for the next step.

    By default the kernel gives new memory for each tensor of some megabytes. Page faults then took half of a step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc allows
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_M_TOP_PAD, 64 << 20)
