"""Samplers whose keyed rows are exchanged in pieces of a fixed size: the same runs as with counts, and on one rank."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.library import usable
from tests.pretended_gpu.drive import built, fit
from tests.ranks import run_on_ranks
from trainer.runtime import Runtime

_KBGAN = ("generator=kbgan", "generator.pool_size=8", "generator.dim=8")
_ALONE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
RUNS = {
    "caches": ("generator=nscaching", "optimizer=rowwise_adagrad", "loss=softmax"),
    "caches for few epochs": ("generator=nscaching", "generator.refresh_epochs=2", "optimizer=lazy_adam"),
    "a baseline for each query": (*_KBGAN, *_ALONE, "baseline@generator.baseline=per_query", "loss=margin_ranking"),
    "windows that are made again": (
        *("generator=near_miss", "generator.list_size=20", "generator.refresh_epochs=1", *_ALONE, "loss=softmax"),
    ),
    "lists that are made again": (
        *("generator=nearest", "generator.list_size=20", "generator.refresh_epochs=1", "loss=softmax"),
        "pretrain.discriminator.epochs=0",
    ),
    "a curriculum of caches": (
        *("generator=curriculum", "generator@generator.hard=nscaching", "generator.progress=margin", "loss=softmax"),
    ),
}


def trained(
    rank: int, world_size: int, options: tuple[str, ...], folder: Path, factor: float
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Trains with so many slots for each that there should be.

    Returns:
        The rows of all entities of all models, and the sampler's state; this rank's keyed rows; how often steps were
        made again.
    """
    options = (*options, "dtype=float64", "trainer.log_every=1000", "trainer.chunk_size=16", "trainer.batch_size=160")
    _, run = built(options, folder, Runtime(rank, world_size, torch.device("cpu")), epochs=3)
    sampler = run.stages[-1].sampler
    for each in (*(player.model.entity for player in run.players.values()), *sampler.keyed_rows().values()):
        each.pieces.factor = factor
    fit(run, folder)
    tables = {name: player.model.entity for name, player in run.players.items()}
    rows = {name: table.gather_all(table.weight.detach()) for name, table in tables.items()}
    keyed = {name: each.row for name, each in sampler.keyed_rows().items()}
    return rows | sampler.state(), keyed, run.training_step.made_again


def whole(of_ranks: list[Any]) -> dict[str, Tensor]:
    """What the ranks have together."""
    (values, keyed, _), *_ = of_ranks
    return values | {name: torch.cat([of_rank[1][name] for of_rank in of_ranks]) for name in keyed}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)
        else:
            assert found[name].equal(value), name


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_that_with_counts_and_that_of_one_rank(name: str, world_size: int, tmp_path: Path):
    fixed, counted = (*RUNS[name], "placement.exchange=fixed"), (*RUNS[name], "placement.exchange=counted")
    in_pieces = run_on_ranks(world_size, trained, fixed, tmp_path / "fixed", 1.0)
    with_counts = run_on_ranks(world_size, trained, counted, tmp_path / "counted", 1.0)
    assert all(made_again == 0 for _, _, made_again in in_pieces)
    expected = whole(with_counts)
    if usable(torch.zeros(1)):
        different = [key for key, value in whole(in_pieces).items() if not value.equal(expected[key])]
        assert not different
    else:  # a product of MKL may round a row otherwise when it stands elsewhere in its matrix, as it does in pieces
        assert_equal(whole(in_pieces), expected)
    if name != "a baseline for each query":  # its averages are rounded to float32
        assert_equal(expected, whole([trained(0, 1, RUNS[name], tmp_path / "one", 1.0)]))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_steps_whose_rows_do_not_fit_are_made_again(name: str, world_size: int, tmp_path: Path):
    options = *RUNS[name], "placement.exchange=fixed"
    enough = run_on_ranks(world_size, trained, options, tmp_path / "enough", 1.0)
    few = run_on_ranks(world_size, trained, options, tmp_path / "few", 0.1)
    assert all(made_again > 0 for _, _, made_again in few)
    assert_equal(whole(few), whole(enough))
