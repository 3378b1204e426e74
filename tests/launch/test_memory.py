"""The estimate of a run's memory is what its tables take, and a run that can't fit is refused by one line."""

import pytest

from launch import memory, train
from launch.build import build_run, build_trainer
from launch.memory import footprint, free_memory
from tests.configs import composed
from trainer.runtime import Runtime


@pytest.mark.parametrize(
    "options",
    [
        ("discriminator=transd", "optimizer=lazy_adam", "generator=uniform"),
        ("discriminator=complex", "optimizer=rowwise_adagrad", "generator=uniform", "dtype=float64"),
        ("discriminator=transe", "generator=kbgan", "generator.dim=12", "pretrain.generator.epochs=0"),
        ("discriminator=distmult", "generator=uniform", "average=ema"),
    ],
    ids=" ".join,
)
def test_it_is_what_tables_take(options, tmp_path):
    config = composed("train", "recipe=none", "graph.num_people=100", "discriminator.dim=8", *options)
    run = build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0))
    trainer = build_trainer(run, tmp_path)
    stage = trainer.stages[-1]
    players = [stage.player.optimizer, *([stage.sampler.optimizer] if stage.sampler.model is not None else [])]
    rows = sum(player.model.entity.weight.nbytes for player in players)
    state = sum(each.nbytes for player in players for each in player.row_state.values())
    if stage.average is not None:
        rows += run.discriminator.entity.weight.nbytes
    found = footprint(config, run.graph, 1)
    assert (found.rows, found.state) == (rows, state)
    known, statistics = run.context.known, run.context.statistics
    indexes = sum(part.nbytes for side in (known.tails, known.heads) for part in (side.query, side.offset, side.answer))
    of_relations = statistics.domain_entity.nbytes + statistics.range_entity.nbytes
    assert found.graph > run.graph.train.nbytes + indexes + of_relations + 24 * run.graph.num_entities
    assert found.graph < 1.3 * (run.graph.train.nbytes + indexes + of_relations + 32 * run.graph.num_entities)
    halves = footprint(config, run.graph, 2)
    assert abs(2 * halves.rows - rows) <= 2 * rows / run.graph.num_entities


def test_a_run_that_cant_fit_is_refused(command, tiny_plain, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 100_000)
    outcome = command(
        train, *tiny_plain, "generator=uniform", "discriminator.dim=1000", f"hydra.run.dir={tmp_path}/run"
    )
    assert outcome.code == 1
    said = outcome.errors.splitlines()[-1]
    assert said.startswith("error: the tables do not fit: the run would take ")
    assert (
        "of this machine for entity rows and optimiser state, and 0.1 MB are free; a smaller discriminator.dim" in said
    )
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_free_memory_is_some_of_the_machine():
    assert 1e6 < free_memory() < 1e14


def test_sizes_are_shown_in_megabytes_or_gigabytes():
    found = memory.Footprint(2_500_000_000, 4_000_000, 100_000)
    assert str(found) == "entity rows 2.5 GB, optimiser state 4.0 MB, graph 0.1 MB"
