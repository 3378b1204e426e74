"""What comes out of measuring a case."""

from dataclasses import dataclass
from typing import Any

from benchmarks.timing import Timing

_REFERENCE_GFLOPS = 160.0


@dataclass(frozen=True)
class Result:
    """One case, measured."""

    timing: Timing
    """Of a training step, or of a ranking of all of its triples."""
    figures: dict[str, float]
    limits: dict[str, float]
    """The best of this process."""
    peak_mb: float
    """The process's largest resident memory until the last repeat, with the matrices of the sgemm before it (50 MB)."""

    def as_dict(self) -> dict[str, Any]:
        """For another process, and for results.jsonl."""
        timing = {"best": self.timing.best, "median": self.timing.median, "all": self.timing.seconds}
        return {"seconds": timing, "figures": self.figures, "limits": self.limits, "peak_mb": self.peak_mb}


def at_reference(rate: float, limits: dict[str, float]) -> float:
    """A rate as it would be on the machine that the targets were set on, by the ratio of both sgemms."""
    return rate * _REFERENCE_GFLOPS / limits["sgemm GFLOP/s"]
