"""Times of repeated work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds that one piece of work took, each time that it was done."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The shortest: what the work takes when nothing else runs."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """What it took as a rule."""
        return median(self.seconds)

    def __truediv__(self, pieces: int) -> "Timing":
        """Of one of so many equal pieces."""
        return Timing(tuple(seconds / pieces for seconds in self.seconds))


def seconds_of(work: Callable[[], object]) -> float:
    """How long work takes, what it left to a GPU included."""
    _synchronize()
    started = time.perf_counter()
    work()
    _synchronize()
    return time.perf_counter() - started


def in_turns(works: Sequence[Callable[[], object]], repeats: int) -> list[Timing]:
    """Times of each work; they take turns, so that whatever else the machine does hits all of them alike."""
    seconds = [[seconds_of(work) for work in works] for _ in range(repeats)]
    return [Timing(times) for times in zip(*seconds, strict=True)]


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
