"""Runs whose entity rows are replicated: equal to those of one rank, and resumed as either kind."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks import run_on_ranks
from tests.trainer.test_trainer import Trigger, fit, lines_of, resume
from tests.worlds import KBGANRun
from trainer.averaging.ema import EMA
from trainer.loop import Stopped
from trainer.runtime import Runtime

STOPPED_AT = 13
"""Of 15 steps: in the adversarial stage, where both models learn."""


def run_of(rank: int, world_size: int, folder: Path, storage: str) -> KBGANRun:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    average = EMA(decay=0.5, every=1, start=0.0)
    return KBGANRun(folder, runtime=runtime, epochs=1, chunk_size=8, average=average, storage=storage)


def whole(rank: int, world_size: int, folder: Path, storage: str) -> dict[str, Tensor]:
    return fit(run_of(rank, world_size, folder, storage))


def begun(rank: int, world_size: int, folder: Path, storage: str) -> None:
    stop_after(run_of(rank, world_size, folder, storage))


def stop_after(run: KBGANRun) -> None:
    """Stops as after a signal to the first rank."""

    def ask() -> None:
        run.runtime.stop_signal = signal.SIGTERM

    run.trainer.trackers = [*run.trainer.trackers, *([Trigger(STOPPED_AT - 1, ask)] if run.runtime.is_first else [])]
    with pytest.raises(Stopped):
        fit(run)


def resumed(rank: int, world_size: int, folder: Path, storage: str) -> dict[str, Tensor]:
    return resume(run_of(rank, world_size, folder, storage))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Metrics and parameters of one rank."""
    folder = tmp_path_factory.mktemp("alone")
    parameters = whole(0, 1, folder, "memory")
    return lines_of(folder), parameters


def assert_equal(folder: Path, found: list[dict[str, Tensor]], expected: Any) -> None:
    lines, parameters = expected
    others = lines_of(folder)
    assert len(others) == len(lines) == 3 * (5 + 1)
    for line, other in zip(lines, others, strict=True):
        for key, value in line.items():
            exact = key.startswith("valid/") or not isinstance(value, float)  # digests, and metrics of counts
            assert other[key] == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-9)), key
    for each in found:
        for key, value in parameters.items():
            assert torch.allclose(each[key], value, rtol=1e-9, atol=1e-9), key


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_it_is_the_run_of_one_rank(world_size: int, expected: Any, tmp_path: Path):
    assert_equal(tmp_path, run_on_ranks(world_size, whole, tmp_path, "replicated"), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [((2, "replicated"), (3, "memory")), ((2, "memory"), (3, "replicated")), ((3, "replicated"), (1, "replicated"))],
    ids=["to partitioned", "from partitioned", "to one rank"],
)
def test_a_run_goes_on_as_either_kind(first: tuple[int, str], then: tuple[int, str], expected: Any, tmp_path: Path):
    run_on_ranks(first[0], begun, tmp_path, first[1])
    assert_equal(tmp_path, run_on_ranks(then[0], resumed, tmp_path, then[1]), expected)
