"""Runs with their table on disk: equal to runs in memory, on any number of ranks, and after a resume."""

import json
from pathlib import Path

import pytest

from graph.errors import InputError
from launch import train
from launch.graph_and_model import read_graph
from launch.memory import footprint
from launch.on_disk import settle_storage
from tests.configs import composed
from trainer.runtime import Runtime

DISK = ("placement.storage=disk", "placement.shards=6", "placement.resident=3")
OPTIONS = ("generator=uniform", "generator.num_negatives=8", "optimizer=lazy_adam", "trainer.epochs=3")


def read(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith("speed/")} for line in lines]


@pytest.fixture
def ran(command, tiny_plain, tmp_path):
    def run(name: str, *options: str) -> list[dict]:
        outcome = command(train, *tiny_plain, *OPTIONS, *options, f"hydra.run.dir={tmp_path / name}")
        assert outcome.code == 0, outcome.errors
        return read(tmp_path / name)

    return run


def test_with_all_shards_in_memory_it_is_the_run_in_memory_bit_for_bit(ran):
    assert ran("disk", *DISK, "placement.resident=6") == ran("memory")


def test_two_ranks_train_what_one_trains_and_a_resume_goes_on_as_if_unbroken(ran, command, tiny_plain, tmp_path, warm):
    one = ran("one", *DISK, "dtype=float64")
    two = ran("two", *DISK, "dtype=float64", "launch.ranks=2")
    for a, b in zip(one, two, strict=True):
        assert a.pop("stage") == b.pop("stage")
        assert a == pytest.approx(b, rel=1e-9)
    ran("broken", *DISK, "dtype=float64", "trainer.epochs=1")
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors
    assert read(tmp_path / "broken") == read(tmp_path / "one")
    # From memory there is no way back into a run whose order of positives is another.
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=4", "placement.storage=memory")
    assert "resume: order is 3_of_6_shards_" in outcome.errors
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=4", "placement.shards=5")
    assert "resume: order is 3_of_5_shards_" in outcome.errors


@pytest.mark.parametrize(
    "options", [("generator=curriculum",), ("generator=mixture", "generator@generator.parts.hard=kbgan")]
)
def test_samplers_of_parts_that_draw_from_memory_are_allowed(options, tmp_path):
    settle_storage(composed("train", *DISK, "optimizer=lazy_adam", *options), tmp_path)


def test_bytes_of_shards_are_logged(ran, tmp_path):
    ran("run", *DISK, "trainer.log_every=1")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    of_steps = [line for line in lines if "speed/shard_bytes_read" in line]
    assert 0 < of_steps[0]["speed/shard_bytes_read"] < of_steps[-1]["speed/shard_bytes_read"]
    assert of_steps[-1]["speed/shard_bytes_written"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("generator=nscaching",), "generator=nscaching draws entities that are not in memory"),
        (("generator=near_miss",), "generator=near_miss draws entities that are not in memory"),
        (("generator=mixture",), "generator.parts.hard=nscaching draws entities that are not in memory"),
        (
            ("generator=curriculum", "generator@generator.hard=near_miss"),
            "generator.hard=near_miss draws entities that are not in memory",
        ),
        (("generator=in_batch",), "generator=in_batch draws entities that are not in memory"),
        (
            ("generator=kbgan", "pretrain.generator.epochs=2", "generator@pretrain.generator.sampler=degree"),
            "pretrain.generator.sampler=degree draws entities that are not in memory",
        ),
        (("generator=uniform", "loss=one_vs_all"), "loss=one_vs_all compares each positive with all entities"),
        (("generator=uniform", "optimizer=adam"), "optimizer=adam moves all rows in each step"),
        (("generator=uniform", "average=ema"), "average=ema is a second table in memory"),
    ],
)
def test_what_needs_the_whole_table_is_refused_before_the_graph_is_read(options, said, tmp_path):
    config = composed("train", *DISK, "optimizer=lazy_adam", *options)
    with pytest.raises(InputError, match=f"placement.storage=disk: {said}"):
        settle_storage(config, tmp_path)
    config.placement.resident = config.placement.shards
    settle_storage(config, tmp_path)
    assert config.placement.folder == str(tmp_path / "table")


def test_an_encoder_is_refused_also_if_all_shards_are_resident(tmp_path):
    config = composed("train", *DISK, "optimizer=lazy_adam", "generator=uniform", "encoder=compgcn")
    config.placement.resident = config.placement.shards
    with pytest.raises(InputError, match="encoder=compgcn has a second table"):
        settle_storage(config, tmp_path)


def test_the_estimate_of_memory_counts_resident_shards():
    whole = composed("train", "graph.num_people=100", "generator=uniform", "optimizer=lazy_adam")
    disk = composed(
        "train", "graph.num_people=100", "generator=uniform", "optimizer=lazy_adam", "placement.storage=disk"
    )
    graph = read_graph(whole, Runtime.start(device="cpu", timeout_seconds=1.0))
    assert footprint(disk, graph, 1).rows == pytest.approx(footprint(whole, graph, 1).rows * 6 / 16, rel=0.01)
