"""The estimate of a run's memory is what its tables take, and a run that can't fit is refused by one line."""

import pytest

from graph.errors import InputError
from launch import memory, train
from launch.build import build_run, build_trainer
from launch.graph_and_model import read_graph
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
def test_it_is_what_tables_take(options, tmp_path, monkeypatch):
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
    placement = run.discriminator.site.placement
    of_entities = placement.row_of_entity, placement.entity_of_row, statistics.entity_degree
    of_facts = run.graph.train, *known.tails.tensors, *known.heads.tensors
    held = sum(each.nbytes for each in (*of_facts, *of_entities))
    assert held < found.graph < 1.3 * held
    assert found.mapped == 0  # the built-in graph has no file
    halves = footprint(config, run.graph, 2)
    assert abs(2 * halves.rows - rows) <= 2 * rows / run.graph.num_entities
    config.placement.storage = "replicated"
    assert footprint(config, run.graph, 1) == found  # there is nobody to have a copy
    copies = footprint(config, run.graph, 2)
    assert copies.state == halves.state
    # The rows of all, and the float64 sums of their gradients twice: to send, and as they come.
    table = sum(player.model.entity.weight.numel() for player in players)
    own = sum(player.model.entity.weight.nbytes for player in players)
    assert copies.rows - halves.rows == own + 2 * 8 * table
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"or placement.storage=memory take less"):
        memory.require_memory(config, run.graph, run.runtime)


def test_what_is_mapped_from_the_cache_is_counted_apart_and_refuses_nothing(tmp_path, monkeypatch):
    graph = tmp_path / "graph"
    graph.mkdir()
    lines = [f"e{number}\tr{number % 7}\te{number * 7919 % 5000}\n" for number in range(20_000)]
    for split, count in (("train", 20_000), ("valid", 1000), ("test", 1000)):
        (graph / f"{split}.txt").write_text("".join(lines[:count]))
    options = [
        "recipe=none",
        "graph=folder",
        f"graph.path={graph}",
        "graph.header=false",
        "discriminator.dim=8",
        "generator=uniform",
    ]
    runtime = Runtime.start(device="cpu", timeout_seconds=1.0)
    cached = composed("train", *options, f"graph.cache={tmp_path / 'cache'}")
    read = read_graph(cached, runtime)
    found = footprint(cached, read, 1)
    of_facts = [*read.known.tails.tensors, *read.known.heads.tensors]
    assert found.mapped > read.train.nbytes + sum(each.nbytes for each in of_facts)
    assert found.graph == 24 * read.num_entities
    uncached = composed("train", *options, "graph.cache=null")
    whole = footprint(uncached, read_graph(uncached, runtime), 1)
    assert (whole.mapped, whole.graph) == (0, found.mapped + found.graph)
    # Room for the tables alone.
    monkeypatch.setattr(memory, "free_memory", lambda: found.rows + found.state + found.graph)
    memory.require_memory(cached, read, runtime)
    monkeypatch.setattr(memory, "free_memory", lambda: found.rows + found.state + found.graph - 1)
    with pytest.raises(InputError, match=r"more machines or placement.storage=disk take less"):
        memory.require_memory(cached, read, runtime)


def test_of_a_table_on_disk_the_resident_shards_are_counted(monkeypatch):
    options = ["recipe=none", "graph.num_people=100", "generator=uniform", "optimizer=lazy_adam"]
    whole = composed("train", *options)
    disk = composed("train", *options, "placement.storage=disk", "placement.shards=8", "placement.resident=2")
    runtime = Runtime.start(device="cpu", timeout_seconds=1.0)
    graph = read_graph(whole, runtime)
    all_rows, some = footprint(whole, graph, 1), footprint(disk, graph, 1)
    # Those of a state, one that comes and one that goes.
    assert (some.rows, some.state) == pytest.approx((all_rows.rows / 2, all_rows.state / 2), rel=0.01)
    assert some.mapped == graph.train.nbytes  # sorted by shard, in a file
    needed = some.rows + some.state + 24 * graph.num_entities
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    memory.require_memory(disk, graph, runtime)
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"more machines or a smaller placement.resident take less"):
        memory.require_memory(disk, graph, runtime)


def test_a_run_that_cant_fit_is_refused(command, tiny_plain, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 100_000)
    outcome = command(
        train, *tiny_plain, "generator=uniform", "discriminator.dim=1000", f"hydra.run.dir={tmp_path}/run"
    )
    assert outcome.code == 1
    said = outcome.errors.splitlines()[-1]
    assert said.startswith("error: the tables do not fit: the run would take ")
    assert (
        "of this machine for entity rows, optimiser state and the places of entities, and 0.1 MB are free; a smaller "
        "discriminator.dim" in said
    )
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_free_memory_is_some_of_the_machine():
    assert 1e6 < free_memory() < 1e14


def test_sizes_are_shown_in_megabytes_or_gigabytes():
    found = memory.Footprint(2_500_000_000, 4_000_000, 100_000, 0)
    assert str(found) == "entity rows 2.5 GB, optimiser state 4.0 MB, graph 0.1 MB"
    found = memory.Footprint(1, 1, 1, 18_600_000_000)
    assert str(found).endswith(", graph 0.0 MB; mapped from files, which may leave memory: 18.6 GB")
