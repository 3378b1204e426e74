"""`resume=auto`: one command that begins a run, and goes on with it whenever it is started again."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from graph.errors import InputError
from launch import train
from launch.agreed import refuse_other_checkpoints
from launch.graph_and_model import refuse_other_graphs
from tests.ranks import run_on_ranks
from tests.same_run import assert_same_run
from tests.worlds import graph_of
from trainer.runtime import Runtime


def test_the_same_command_begins_a_run_and_goes_on_with_it(command, tiny_plain):
    options = [*tiny_plain, "generator=uniform", "resume=auto", "trainer.log_digests=true"]
    assert command(train, *options, "trainer.epochs=4", "hydra.run.dir=unbroken").code == 0
    again = [*options, "hydra.run.dir=run"]
    assert command(train, *again).code == 0
    assert command(train, *again, "trainer.epochs=4").code == 0
    assert_same_run(Path("run"), Path("unbroken"))
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["resume"] == str(Path("run").absolute())
    assert not [line for line in yaml.safe_load(Path("run/overrides.yaml").read_text()) if "resume" in line]


def test_a_run_that_goes_on_keeps_the_options_that_are_not_typed_again(command, tiny_plain):
    few = [*tiny_plain, "generator=uniform", "resume=auto", "hydra.run.dir=run"]
    assert command(train, *few, "optimizer.lr=0.01", "trainer.epochs=1").code == 0
    assert command(train, *few).code == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["optimizer"]["lr"] == 0.01


def test_ranks_that_are_started_here_go_on_too(warm, command, tiny_plain):
    few = [*tiny_plain, "generator=uniform", "resume=auto", "hydra.run.dir=run", "launch.ranks=2"]
    assert command(train, *few, "trainer.epochs=1").code == 0
    assert command(train, *few).code == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["trainer"]["epochs"] == 2


def test_a_run_folder_must_be_typed(command, tiny_plain):
    outcome = command(train, *tiny_plain, "resume=auto")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "resume=auto goes on with the run in hydra.run.dir, which must be typed" in outcome.errors


def test_a_used_folder_is_refused_with_the_way_out(command, tiny_plain):
    options = [*tiny_plain, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=run"]
    assert command(train, *options).code == 0
    assert "with resume=auto it goes on whenever it is started again" in command(train, *options).errors


def differ(rank: int, world_size: int, folders: list[Path]) -> str:
    with pytest.raises(InputError) as caught:
        refuse_other_checkpoints(folders[rank], Runtime(rank, world_size, torch.device("cpu")))
    return str(caught.value)


def read_differently(rank: int, world_size: int) -> str:
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    graph = graph_of([(0, 0, 1), (1, 0, rank)], 2, 1)
    with pytest.raises(InputError) as caught:
        refuse_other_graphs(graph, Runtime(rank, world_size, torch.device("cpu")))
    return str(caught.value)


def test_machines_with_different_graphs_are_refused():
    first, second = run_on_ranks(2, read_differently)
    assert first == second
    assert re.fullmatch(
        r"graph: rank 1 has read another graph than rank 0 \(fingerprints \w{16} and \w{16}\); .*", first
    )


def test_ranks_that_see_different_checkpoints_are_refused(finished, tmp_path):
    one, other = sorted((finished / "checkpoints").glob("step_*"))[-2:]
    shutil.copytree(other, tmp_path / "other")
    said = "resume: rank 1 sees another checkpoint at this path than rank 0; the machines' disks must hold the same one"
    assert run_on_ranks(2, differ, [one, tmp_path / "other"]) == [said, said]
