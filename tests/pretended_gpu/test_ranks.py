"""Two ranks, real processes, that talk through gloo as if it were NCCL."""

import math
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from graph.errors import InputError
from tests.pretended_gpu.budgets import OF_TWO_RANKS, complaint
from tests.pretended_gpu.collectives import nccl_rules
from tests.pretended_gpu.device import GPU, on_gpu
from tests.pretended_gpu.drive import Trained, alone, built, count_steps, fit, train
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.test_not_finite import plant, state_of
from tests.ranks import run_on_ranks
from trainer.loop import Step, Stopped, Trainer
from trainer.runtime import Runtime
from trainer.stage import Stage

RUNS = {
    "kbgan": ("generator=kbgan", "generator.pool_size=8", "generator.dim=8", "dtype=float64"),
    "nscaching": ("generator=nscaching", "optimizer=rowwise_adagrad", "loss=softmax", "dtype=float64"),
    "all entities": (
        *("generator=uniform", "generator.num_negatives=1", "discriminator=conve", "discriminator.scoring.height=2"),
        *("discriminator.scoring.num_filters=4", "loss=one_vs_all", "optimizer=lazy_adam", "dtype=float64"),
    ),
}
STEPS = 2


def pretending_rank(rank: int, world_size: int) -> Runtime:
    """What `Runtime.start` would make with NCCL: gloo stands in for it, and waits without a timeout on the CPU."""
    runtime = Runtime(rank, world_size, GPU)
    runtime._patient = dist.new_group(backend="gloo")
    return runtime


def train_on_ranks(
    rank: int, world_size: int, options: tuple[str, ...], folder: Path
) -> tuple[Trained, Counter[str], list[str]]:
    with pretended_gpu(), nccl_rules() as calls:
        trained = train(options, folder, pretending_rank(rank, world_size))
        run, _ = built(options, folder / "other", pretending_rank(rank, world_size), epochs=1)
        dense = run.discriminator.dense_tensors()
        return trained, calls, [name for name, value in dense.items() if not on_gpu.has(value)]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "replicated"])
@pytest.mark.parametrize("name", RUNS)
def test_collectives_are_what_nccl_takes_and_the_run_is_that_of_one_rank(name, storage: str, tmp_path: Path):
    options = *RUNS[name], f"placement.storage={storage}"
    two = run_on_ranks(2, train_on_ranks, options, tmp_path / "two")
    one = train(RUNS[name], tmp_path / "one", alone("cpu"))
    for trained, calls, on_cpu in two:
        assert calls["all_to_all_single"] and calls["all_reduce"] and calls["broadcast"]
        assert not on_cpu  # DDP sends them when it begins
        assert trained.test["both"]["mrr"] == pytest.approx(one.test["both"]["mrr"], rel=1e-6)
    expect_like(two[0][0].steps, one.steps)


def train_to_the_end(run: Trainer, folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Trains; the rows of all entities of both models and the state of the sampler, and this rank's keyed rows."""
    fit(run, folder)
    tables = {name: player.model.entity for name, player in run.players.items()}
    sampler = run.stages[-1].sampler
    keyed = {name: each.row.cpu() for name, each in sampler.keyed_rows().items()}
    return {name: table.gather_all(table.weight.detach()).cpu() for name, table in tables.items()} | {
        name: value.cpu() for name, value in sampler.state().items()
    }, keyed


FEW_READINGS = {
    "kbgan": (
        *(*RUNS["kbgan"], "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),
        *("trainer.log_every=1000", "trainer.valid_every=0"),
    ),
    "nscaching": (*RUNS["nscaching"], "trainer.log_every=1000", "trainer.valid_every=0"),
}


def train_with_few_slots(
    rank: int, world_size: int, name: str, folder: Path, of_keys: bool
) -> tuple[tuple[dict[str, Tensor], dict[str, Tensor]], list[int], int]:
    """At the end of the first epoch there are too few slots, for keyed rows or for those of entities, which the hosts
    see after the second: what is trained in the end, the numbers of the steps that are made, and how often the run went
    back."""
    with pretended_gpu(), nccl_rules():
        _, run = built(FEW_READINGS[name], folder, pretending_rank(rank, world_size), epochs=2)
        train_step, made = run.train_step, []

        def stepped(stage: Stage, number: int) -> Step | None:
            if number == stage.order.steps_per_epoch - 1 and number not in made:
                entities = [player.model.entity for player in run.players.values()]
                for each in stage.sampler.keyed_rows().values() if of_keys else entities:
                    each.pieces.factor = 0.2
            made.append(number)
            return train_step(stage, number)

        run.train_step = stepped
        return train_to_the_end(run, folder), made, run.training_step.made_again


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of_keys"), [("kbgan", False), ("nscaching", False), ("nscaching", True)])
def test_steps_whose_rows_do_not_fit_are_made_again_and_the_run_is_that_of_one_rank(
    name: str, of_keys: bool, tmp_path: Path
):
    found = run_on_ranks(2, train_with_few_slots, name, tmp_path / "two", of_keys)
    _, run = built(FEW_READINGS[name], tmp_path / "one", alone("cpu"), epochs=2)
    alike, keyed = train_to_the_end(run, tmp_path / "one")
    steps, epoch = run.stages[-1].steps, run.stages[-1].order.steps_per_epoch
    for (trained, _), made, made_again in found:
        assert made_again > 0
        assert made == [*range(steps), *[*range(epoch - 1, steps)] * made_again]
        for key, value in alike.items():
            torch.testing.assert_close(trained[key], value, rtol=1e-9, atol=1e-9, msg=key)
    for key, rows in keyed.items():
        assert torch.cat([of_rank[key] for (_, of_rank), _, _ in found]).equal(rows)


def expect_like(steps: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    assert [line["step"] for line in steps] == [line["step"] for line in others]
    for line, like in zip(steps, others, strict=True):
        for key, value in like.items():
            assert line[key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), key


def fail_on_ranks(rank: int, world_size: int, folder: Path) -> tuple[str, list[str], int]:
    """Plants a loss of nan on one rank: the error, what changed with it, and the step that the run is left at."""
    options = *RUNS["kbgan"], "placement.storage=replicated", "trainer.log_every=1000"
    with pretended_gpu(), nccl_rules(), pytest.MonkeyPatch.context() as patch:
        _, run = built(options, folder, pretending_rank(rank, world_size), epochs=2)
        epoch = run.stages[-1].order.steps_per_epoch
        before = plant(patch, run, {epoch: 1.0 if rank == 0 else math.nan})
        with pytest.raises(InputError) as error:
            fit(run, folder)
        after = state_of(run)
        changed = [key for key, value in before[0].items() if not after[key].equal(value)]
        return str(error.value), changed, run.cursor.stage_step - epoch


@pytest.mark.slow
def test_nothing_moves_on_any_rank_with_a_loss_that_is_no_number(tmp_path: Path):
    for said, changed, steps in run_on_ranks(2, fail_on_ranks, tmp_path):
        assert said.startswith("the loss is nan at step ")
        assert (changed, steps) == ([], 0)


def stop_on_ranks(rank: int, world_size: int, folder: Path) -> int:
    """Signals one rank after a few steps: the step at which this rank stops."""
    options = *RUNS["kbgan"], "placement.storage=replicated", "trainer.log_every=1000", "trainer.batch_size=32"
    with pretended_gpu(), nccl_rules():
        runtime = pretending_rank(rank, world_size)
        _, run = built(options, folder, runtime, epochs=2)
        train_step = run.train_step

        def stepped(stage: Stage, number: int) -> Step | None:
            if rank == 1 and run.cursor.step == 2:
                runtime.stop_signal = signal.SIGTERM
            return train_step(stage, number)

        run.train_step = stepped
        with pytest.raises(Stopped):
            fit(run, folder)
        return run.cursor.step


@pytest.mark.slow
def test_hosts_that_do_not_wait_stop_at_one_step_soon_after_a_signal_to_one(tmp_path: Path):
    first, second = run_on_ranks(2, stop_on_ranks, tmp_path)
    assert first == second
    assert 2 < first <= 2 + 16


def count_on_ranks(rank: int, world_size: int, options: tuple[str, ...], folder: Path) -> Any:
    with pretended_gpu() as counts, nccl_rules():
        count_steps(options, folder, pretending_rank(rank, world_size), counts, steps=STEPS)
        return counts


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TWO_RANKS)
def test_a_step_of_two_ranks_waits_as_often_as_its_budget_says(name, tmp_path: Path):
    for counts in run_on_ranks(2, count_on_ranks, OF_TWO_RANKS[name].options, tmp_path):
        assert (said := complaint(counts, STEPS, OF_TWO_RANKS[name])) is None, said
