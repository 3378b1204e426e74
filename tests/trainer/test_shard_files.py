"""Checkpoints of a table on disk: a file for each shard, links for those that have not changed, loaded by anyone."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from embedding.storage import DiskStorage
from graph.partition import random_placement
from tests.embedding.test_storage import state_of
from tests.ranks import run_on_ranks
from tests.trainer.test_checkpoint import MANIFEST, STATE, assert_same, checkpointer_of, content, players_of, train
from tests.worlds import families, lazy_adam, model_of, site_of
from trainer.checkpoint import Player
from trainer.runtime import Runtime

SHARDS = 4


def on_disk(folder: Path, runtime: Runtime | None = None, *, resident: int = 2) -> dict[str, Player]:
    site, plan = site_of(families(), runtime), {"shards": SHARDS, "resident": resident, "folder": str(folder)}
    placement = random_placement(families(), 3, storage="disk", **plan)
    storage = DiskStorage(placement, site.rank, site.world_size)
    model = model_of(replace(site, placement=placement, storage=storage))
    return {"discriminator": Player(model, lazy_adam(model))}


def in_memory(runtime: Runtime | None = None) -> dict[str, Player]:
    return {"discriminator": players_of(runtime, seed=5, optimizer=lazy_adam)["discriminator"]}


def test_only_shards_that_steps_used_are_written_again(tmp_path):
    players, checkpointer = on_disk(tmp_path / "table"), checkpointer_of(tmp_path, keep=3)
    storage = players["discriminator"].model.site.storage
    train(players)
    first = checkpointer.save("step_1", players, STATE, MANIFEST)
    storage.enter(state_of((1, 2), (1, 2)))
    players["discriminator"].model.entity.weight[slice(*storage.shards[1])] += 1
    second = checkpointer.save("step_2", players, STATE, MANIFEST)
    same = [
        (first / f"rows_{n}_of_4.safetensors").samefile(second / f"rows_{n}_of_4.safetensors") for n in range(SHARDS)
    ]
    assert same == [True, False, False, True]
    checkpointer.read_manifest(second)
    loaded = in_memory()
    checkpointer.load(second, loaded)
    assert_same(content(loaded), content(players))
    # What is loaded has changed, whatever was saved before.
    checkpointer.load(first, players)
    third = checkpointer.save("step_3", players, STATE, MANIFEST)
    checkpointer.load(third, loaded)
    assert_same(content(loaded), content(players))


def test_steps_with_all_shards_in_memory_are_saved(tmp_path):
    players, checkpointer = on_disk(tmp_path / "table", resident=SHARDS), checkpointer_of(tmp_path)
    for number in range(2):
        players["discriminator"].model.entity.weight[:] += 1  # as steps do, none of which tells which shards it uses
        path = checkpointer.save(f"step_{number}", players, STATE, MANIFEST)
    loaded = in_memory()
    checkpointer.load(path, loaded)
    assert_same(content(loaded), content(players))


def test_a_disk_without_hard_links_gets_all_shards_again(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as FAT and some network disks say

    players, checkpointer = on_disk(tmp_path / "table"), checkpointer_of(tmp_path, keep=3)
    train(players)
    checkpointer.save("step_1", players, STATE, MANIFEST)
    players["discriminator"].model.site.storage.enter(state_of((1, 2), (1, 2)))
    monkeypatch.setattr("trainer.shard_files.os.link", fails)
    second = checkpointer.save("step_2", players, STATE, MANIFEST)
    checkpointer.read_manifest(second)
    loaded = in_memory()
    checkpointer.load(second, loaded)
    assert_same(content(loaded), content(players))


def _save(rank: int, world_size: int, folder: Path) -> dict:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    players = on_disk(folder / "table", runtime)
    train(players, runtime)
    checkpointer_of(folder, runtime).save("step_1", players, STATE, MANIFEST)
    return content(players)


@pytest.mark.parametrize("ranks", [2])
def test_what_two_ranks_saved_is_loaded_to_memory_and_to_disk_by_one(ranks, tmp_path):
    saved = run_on_ranks(ranks, _save, tmp_path)[0]
    checkpointer = checkpointer_of(tmp_path)
    checkpointer.read_manifest(tmp_path / "step_1")
    for players in (in_memory(), on_disk(tmp_path / "other")):
        checkpointer.load(tmp_path / "step_1", players)
        assert_same(content(players), saved)
