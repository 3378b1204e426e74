"""Runs whose entity rows are kept in bfloat16: memory, steps, ranks, resuming, storage and export."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedding.lookup import Lookup
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import LazyAdam, RowwiseAdagrad
from embedding.rounding import Rounding, rounded_at_random
from graph.counter_random import stream
from graph.errors import InputError
from launch.combinations import refuse_senseless
from launch.graph_and_model import build_without_entities
from launch.kept_rows import refuse_with_bfloat16
from tests.configs import composed
from tests.embedding.test_optimizer import OPTIMIZERS, batches, loss_of
from tests.pretended_gpu.drive import Trained, alone, built, fit, saved_in, train
from tests.ranks import run_on_ranks
from tests.worlds import families, model_of, site_of
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.saved_rows import open_trained

OPTIONS = (
    *("dtype=bfloat16", "generator=uniform", "generator.num_negatives=8", "trainer.chunk_size=8"),
    *("discriminator=complex", "loss=softmax", "optimizer=rowwise_adagrad", "discriminator.max_norm=2.0"),
)
KBGAN = (
    *("dtype=bfloat16", "generator=kbgan", "generator.pool_size=8", "generator.dim=8", "optimizer=lazy_adam"),
    *("optimizer@generator.optimizer=lazy_adam", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),
)


def tiny(rounding: Rounding | None, max_norm: float | None = None) -> KGEModel:
    site = replace(site_of(families(), dtype=torch.float32), rounding=rounding)
    return model_of(site, dim=6, max_norm=max_norm)


def test_the_table_takes_half_the_memory_and_is_computed_with_in_float32():
    whole, half = tiny(None), tiny(Rounding.STOCHASTIC)
    assert half.entity.weight.untyped_storage().nbytes() * 2 == whole.entity.weight.untyped_storage().nbytes()
    state = OPTIMIZERS["rowwise_adagrad"](half).row_state["square_sum"]
    assert (state.dtype, state.shape) == (torch.float32, (len(half.entity.weight), 1))
    assert half.entity.weight.equal(whole.entity.weight.bfloat16())
    entity = torch.tensor([[3, 9], [9, 3]])
    lookup, (place,) = half.entity.look_up(entity)
    assert isinstance(lookup, Lookup)
    assert lookup.rows.shape == (2, 6)
    assert lookup.rows[place].equal(half.entity.weight[half.entity.row_of_entity[entity]].float())
    ((first, rows),) = half.entity.blocks(1000)
    assert (first, rows.dtype) == (0, torch.float32)


def moved(model: KGEModel, make: type[ModelOptimizer], steps: int) -> list[Tensor]:
    """The rows after each step."""
    optimizer = OPTIMIZERS["lazy_adam" if make is LazyAdam else "rowwise_adagrad"](model)
    found = []
    for batch in batches(steps):
        loss_of(model, batch).backward()
        optimizer.step()
        found.append(model.entity.weight.clone())
    return found


@pytest.mark.parametrize("make", [RowwiseAdagrad, LazyAdam])
@pytest.mark.parametrize("rounding", Rounding)
def test_a_step_is_that_of_float32_rounded_once(rounding: Rounding, make: type[ModelOptimizer]):
    whole, half = tiny(None, max_norm=0.5), tiny(rounding, max_norm=0.5)
    whole.entity.weight.copy_(half.entity.weight)
    before = half.entity.weight.clone()
    (exact,), (found,) = moved(whole, make, 1), moved(half, make, 1)
    changed = (exact != before.float()).any(1)
    assert 0 < changed.sum() < len(changed)
    key = stream("discriminator entity rounding", half.site.seed, 0)
    expected = exact.bfloat16()
    if rounding == Rounding.STOCHASTIC:
        expected = rounded_at_random(exact, key, half.entity.entity)
    assert found[~changed].equal(before[~changed])
    # One path sums a row's gradient where it moves the row, the other before: float32's last digit may differ.
    assert (found != expected).sum() <= 1
    torch.testing.assert_close(found.float(), expected.float(), rtol=2**-7, atol=1e-6)


def test_small_steps_add_up_only_if_they_are_rounded_at_random():
    """512 steps of 1/64 of the last digit of 1."""
    for rounding, least, most in ((Rounding.STOCHASTIC, 0.8, 1.2), (Rounding.NEAREST, 0.0, 0.0)):
        table = tiny(rounding).entity
        table.weight.fill_(1.0)
        row, step = torch.arange(len(table.weight)), 2.0**-7 / 64
        for number in range(512):
            table.write(row, table.weight.float() + step, number)
        gained = float((table.weight.float() - 1).mean()) / (512 * step)
        assert least <= gained <= most, rounding


def on_ranks(rank: int, world_size: int, options: tuple[str, ...], folder: Path) -> Trained:
    return train(options, folder, Runtime(rank, world_size, torch.device("cpu")))


def expect_same(some: Trained, other: Trained) -> None:
    """Equal but for numbers that were rounded to a neighbour, because float32's last digit differed."""
    for key, value in by_entity(other).items():
        mine = by_entity(some)[key]
        assert mine.dtype == value.dtype
        assert (mine != value).double().mean() < 1e-3, key
    assert some.test["both"]["mrr"] == pytest.approx(other.test["both"]["mrr"], rel=1e-3)


def by_entity(trained: Trained) -> dict[str, Tensor]:
    """The tensors with a row for each entity, of all files of a checkpoint, in the order of entities."""
    files = sorted(name.split(": ")[0] for name in trained.saved if name.endswith(": entity"))
    entity = torch.cat([trained.saved[f"{file}: entity"] for file in files])
    names = [name.split(": ")[1] for name in trained.saved if name.startswith(f"{files[0]}: ")]
    return {name: torch.cat([trained.saved[f"{file}: {name}"] for file in files])[entity.argsort()] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, KBGAN], ids=["uniform", "kbgan"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_train_resume_and_rank_as_one_does(world_size: int, options: tuple[str, ...], tmp_path: Path):
    one = train(options, tmp_path / "one", alone("cpu"))
    assert by_entity(one)["discriminator/weight"].dtype == torch.bfloat16
    for found in run_on_ranks(world_size, on_ranks, options, tmp_path / "many"):
        expect_same(found, one)


def unbroken(options: tuple[str, ...], folder: Path, epochs: int = 2) -> dict[str, Tensor]:
    _, trainer = built(options, folder, alone("cpu"), epochs=epochs)
    fit(trainer, folder)
    return saved_in(folder)


@pytest.mark.parametrize("options", [OPTIONS, pytest.param(KBGAN, marks=pytest.mark.slow)], ids=["uniform", "kbgan"])
def test_a_resumed_run_is_the_unbroken_one(options: tuple[str, ...], tmp_path: Path):
    resumed, whole = train(options, tmp_path / "resumed", alone("cpu")).saved, unbroken(options, tmp_path / "whole")
    assert resumed.keys() == whole.keys()
    assert all(resumed[name].equal(value) for name, value in whole.items())


def go_on(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    _, trainer = built(OPTIONS, folder, runtime, epochs=2, resumed=True)
    checkpoint = find_checkpoint(folder, "latest", "resume")
    trainer.resume(checkpoint, trainer.checkpointer.read_manifest(checkpoint))
    fit(trainer, folder)
    return saved_in(folder)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path):
    whole = Trained([], {}, unbroken(OPTIONS, tmp_path / "whole"))
    unbroken(OPTIONS, tmp_path / "begun", epochs=1)
    for saved in run_on_ranks(2, go_on, tmp_path / "begun"):
        for key, value in by_entity(whole).items():
            assert (by_entity(Trained([], {}, saved))[key] != value).double().mean() < 1e-3, key


def test_rows_on_disk_are_those_in_memory(tmp_path: Path):
    disk = ("placement.storage=disk", "placement.shards=4", "placement.resident=4")
    here = unbroken(OPTIONS, tmp_path / "memory", epochs=1)
    there = unbroken((*OPTIONS, *disk, f"placement.folder={tmp_path / 'table'}"), tmp_path / "disk", epochs=1)
    for key, value in by_entity(Trained([], {}, here)).items():
        assert by_entity(Trained([], {}, there))[key].equal(value), key


def test_exports_read_float32(tmp_path: Path):
    saved = unbroken(OPTIONS, tmp_path, epochs=1)
    run, _ = built(OPTIONS, tmp_path / "other", alone("cpu"), epochs=1)
    model = build_without_entities(run.config, run.graph, run.runtime)
    count = run.graph.num_entities
    opened = open_trained(find_checkpoint(tmp_path, "latest", "run"), "discriminator", model, count)
    (rows,) = opened.blocks(count)
    assert rows.dtype == torch.float32
    assert rows.equal(by_entity(Trained([], {}, saved))["discriminator/weight"].float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("encoder=compgcn",), "^dtype=bfloat16: encoder=compgcn makes a second table of rows, in float32; "),
        (("average=ema",), "^dtype=bfloat16: average=ema is a second table, and its small steps would be lost"),
        (("placement.storage=replicated",), "^dtype=bfloat16: placement.storage=replicated copies the table"),
        (("discriminator=nbfnet",), "^dtype=bfloat16: discriminator=nbfnet has no vectors of entities; "),
    ],
)
def test_what_does_not_go_together_is_named(options: tuple[str, ...], message: str):
    config = composed("train", *options, "dtype=bfloat16")
    with pytest.raises(InputError, match=message):
        refuse_with_bfloat16(config)
    config.dtype = "float32"
    refuse_with_bfloat16(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("optimizer=adam",), "^optimizer: adam moves all rows in each step, and a table in bfloat16 has no room"),
        (("generator=kbgan", "optimizer=lazy_adam"), "^generator: adam moves all rows in each step"),
        (("rounding=up",), "^rounding must be one of stochastic, nearest, got 'up'$"),
        (("dtype=float16",), "^dtype must be one of float32, float64, bfloat16, got 'float16'$"),
    ],
)
def test_a_run_is_refused_before_its_table_is_made(options: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        built((*OPTIONS, *options), tmp_path, alone("cpu"), epochs=1)


def test_a_rounding_without_effect_is_named(tmp_path: Path):
    options = *OPTIONS, "dtype=float32", "rounding=nearest"
    run, trainer = built(options, tmp_path, alone("cpu"), epochs=1)
    with pytest.raises(InputError, match=r"^rounding=nearest has no effect with dtype=float32; leave it out"):
        refuse_senseless(run.config, trainer)
