"""Runs whose ranks exchange rows in pieces of a fixed size: equal to those of one rank, also if rows do not fit."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generator.baseline import Baseline, PerQuery, PreviousEpoch, RunningMean
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.trainer.test_replicated import assert_equal, stop_after
from tests.trainer.test_trainer import fit, lines_of, resume
from tests.worlds import KBGANRun
from trainer.averaging.ema import EMA
from trainer.fixed_exchange import why_counted
from trainer.runtime import Runtime

BASELINES = {"previous epoch": PreviousEpoch, "running mean": partial(RunningMean, decay=0.9)}


def run_of(rank: int, world_size: int, folder: Path, exchange: str, baseline: Baseline) -> KBGANRun:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    return KBGANRun(folder, runtime=runtime, epochs=1, chunk_size=8, exchange=exchange, baseline=baseline)


def whole(rank: int, world_size: int, folder: Path, exchange: str, factor: float, baseline: str) -> dict[str, Tensor]:
    """Trains with so many slots for each that there should be."""
    run = run_of(rank, world_size, folder, exchange, BASELINES[baseline]())
    for player in run.trainer.players.values():
        player.model.entity.pieces.factor = factor
    return fit(run)


def begun(rank: int, world_size: int, folder: Path, exchange: str) -> None:
    stop_after(run_of(rank, world_size, folder, exchange, PreviousEpoch()))


def resumed(rank: int, world_size: int, folder: Path, exchange: str) -> dict[str, Tensor]:
    return resume(run_of(rank, world_size, folder, exchange, PreviousEpoch()))


@pytest.fixture(scope="module", params=BASELINES)
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A baseline; metrics and parameters of one rank with it."""
    folder = tmp_path_factory.mktemp("alone")
    parameters = whole(0, 1, folder, "fixed", 1.0, request.param)
    return request.param, (lines_of(folder), parameters)


def made_again(folder: Path) -> int:
    """The last count of the run's lines of metrics."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["speed/made_again"] for line in lines if "speed/made_again" in line][-1]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 0.02], ids=["room", "too few slots"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_it_is_the_run_of_one_rank(world_size: int, factor: float, expected: tuple[str, Any], tmp_path: Path):
    baseline, of_one = expected
    assert_equal(tmp_path, run_on_ranks(world_size, whole, tmp_path, "fixed", factor, baseline), of_one)
    count = made_again(tmp_path)
    assert count == 0 if factor == 1 else count >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [((2, "fixed"), (3, "counted")), ((2, "counted"), (3, "fixed")), ((3, "fixed"), (1, "fixed"))],
    ids=["to counted", "from counted", "to one rank"],
)
def test_a_run_goes_on_with_either(first: tuple[int, str], then: tuple[int, str], tmp_path: Path):
    parameters = whole(0, 1, tmp_path / "alone", "counted", 1.0, "previous epoch")
    run_on_ranks(first[0], begun, tmp_path, first[1])
    found = run_on_ranks(then[0], resumed, tmp_path, then[1])
    assert_equal(tmp_path, found, (lines_of(tmp_path / "alone"), parameters))


class NeverPutBack(PreviousEpoch):
    """A baseline whose author wrote no `undo`."""

    def undo(self) -> None:
        """None: that can't be."""


def refused(rank: int, world_size: int, folder: Path) -> str:
    with pytest.raises(InputError) as raised:
        run_of(rank, world_size, folder, "fixed", NeverPutBack())
    return str(raised.value)


def test_a_run_that_can_not_is_refused_with_the_reason(tmp_path: Path):
    for said in run_on_ranks(2, refused, tmp_path):
        assert said == (
            "placement.exchange is fixed, but steps of the adversarial stage can't exchange rows in pieces of a fixed "
            "size, because KBGANSampler with these options can't take a step back, or looks up rows of no fixed "
            "number; take null, which does so where it is possible, or counted"
        )


def test_what_a_step_changes_and_nobody_puts_back_is_a_reason_for_counts(tmp_path: Path):
    run = KBGANRun(tmp_path)
    stage = run.trainer.stages[-1]
    assert why_counted(stage, observed=False) is None
    assert why_counted(stage, observed=True) == "quality=sampled counts on the host what each step scores"
    averaged = replace(stage, average=EMA(decay=0.5, every=1, start=0.0))
    assert why_counted(averaged, observed=False) == "the average EMA would count steps that are made again"
    copied = KBGANRun(tmp_path, storage="replicated").trainer.stages[-1]
    assert why_counted(copied, observed=False) == ("placement.storage is replicated, so that no rank asks for rows")
    queries = KBGANRun(tmp_path, storage="replicated", baseline=PerQuery(decay=0.9)).trainer.stages[-1]
    assert why_counted(queries, observed=False) is None  # their averages are partitioned
