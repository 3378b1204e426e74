"""Compares the lines of metrics of two runs with `trainer.log_digests=true`, which may be of different lengths."""

import json
from dataclasses import dataclass
from pathlib import Path

ROUNDING = 1e-4
"""The largest relative difference of two losses that counts as rounding, as in the tests."""


@dataclass(frozen=True)
class SameLines:
    """What two runs have in common."""

    steps: int
    """Steps of which both have a line."""
    digests: int
    """Digests in each of these lines."""
    are_equal: bool
    """Whether all digests are equal, and losses but for rounding."""
    loss_difference: float
    """The largest relative one."""

    @property
    def cells(self) -> str:
        """The last three cells of a row of a table: measured, asked, what was run."""
        measured = "equal" if self.are_equal else "NOT EQUAL"
        found = f"{self.digests} digests in each of {self.steps} steps"
        return f"{measured} | equal | {found}; losses differ by {self.loss_difference:.0e}"


def lines_by_step(folder: Path) -> dict[int, dict[str, float | str]]:
    """A run's lines of metrics, by the number of the step; the last may be in the middle of being written."""
    lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    return {line["step"]: line for line in map(json.loads, lines)}


def compare(folder: Path, other: Path) -> SameLines:
    """Compares the runs of two folders in the steps of which both have a line.

    Raises:
        RuntimeError: there is no such step, or its lines have no digests.
    """
    ours, theirs = lines_by_step(folder), lines_by_step(other)
    pairs = [(ours[step], theirs[step]) for step in sorted(ours.keys() & theirs.keys())]
    digests = [key for key in pairs[0][0] if key.startswith("digest/")] if pairs else []
    if not digests:
        raise RuntimeError(f"{folder} and {other} have no digests of the same step")
    apart = max(abs(float(one["loss"]) / float(like["loss"]) - 1) for one, like in pairs)
    equal = all(one[key] == like[key] for one, like in pairs for key in digests)
    return SameLines(len(pairs), len(digests), equal and apart <= ROUNDING, apart)
