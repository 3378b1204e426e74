"""What the figures are to reach, and which of it they do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on a figure of every case whose name fits the pattern."""

    cases: str
    figure: str
    bound: float
    most: bool = False
    """Whether the bound is the largest that is good, not the least."""

    def reached(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value <= self.bound if self.most else value >= self.bound


_PRODUCTS = ("complex", "distmult", "transe_l2")
_LOSSES = ("softmax", "self_adversarial")
TARGETS = (
    *(Target(f"train/{model}/{loss}/shared", "share of sgemm", 0.5) for model in _PRODUCTS for loss in _LOSSES),
    *(Target(f"train/{model}/{loss}/shared", "x peer", 100) for model in _PRODUCTS for loss in _LOSSES),
    *(
        Target(f"train/{model}/{loss}/shared_bf16", f"x train/{model}/{loss}/shared", 1.5)
        for model in _PRODUCTS
        for loss in _LOSSES
    ),
    Target("train/transe_l1/self_adversarial/shared", "x cdist", 3),
    Target("train/transe_l1/self_adversarial/shared", "x peer", 100),
    Target("train/rotate/self_adversarial/shared", "x train/transe_l1/self_adversarial/shared", 0.6),
    Target("train/rotate/*/shared", "x peer", 100),
    Target("kbgan/own_setting", "positives/s at 160 GFLOP/s", 300_000),
    Target("kbgan/pool256", "x train/complex/self_adversarial/shared_one_side", 1 / 1.5),
    *(Target(f"rank/{model}", "triples/s at 160 GFLOP/s", 8_000) for model in ("complex", "distmult")),
    Target("rank/transe_l1", "triples/s at 160 GFLOP/s", 1_500),
    Target("rank/*", "x peer", 20),
    Target("ranks/*", "x one rank", 0.8),
    Target("memory/*", "peak of budget", 1, most=True),
)


def judge(results: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Target, float]]:
    """Each target that was measured, with the case and the figure."""
    results = list(results)
    for target in TARGETS:
        for result in results:
            if fnmatch(result["case"], target.cases) and target.figure in result["figures"]:
                yield result["case"], target, result["figures"][target.figure]
