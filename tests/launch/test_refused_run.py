"""A refused run leaves no new folder; what was there before stays."""

from pathlib import Path

import pytest

from launch import search, train

WRONG = [
    ["discriminator.dim=-1"],  # before ranks start
    ["trainer.metric=typo"],  # when the run is built
    ["trainer.patience=2", "trainer.valid_every=0"],  # when its parts are compared
]


@pytest.mark.parametrize("wrong", [*WRONG, [*WRONG[1], "hydra.run.dir=new/run"]])
def test_a_refused_run_leaves_no_folder(wrong, command, tiny_plain):
    outcome = command(train, *tiny_plain, "generator=uniform", "hydra/job_logging=default", *wrong)
    assert (outcome.code, outcome.errors[:7]) == (1, "error: "), outcome.errors
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("warm")
def test_a_run_whose_ranks_refuse_leaves_no_folder(command, tiny_plain):
    outcome = command(train, *tiny_plain, "generator=uniform", "launch.ranks=2", "trainer.metric=typo")
    assert outcome.code == 1
    assert list(Path().iterdir()) == []


def test_what_was_there_before_stays(command, tiny_plain):
    Path("outputs/other").mkdir(parents=True)
    Path("mine/run").mkdir(parents=True)
    for folder in ([], ["hydra.run.dir=mine/run"], ["hydra.run.dir=mine/new/run"]):
        assert command(train, *tiny_plain, "generator=uniform", "trainer.metric=typo", *folder).code == 1
    assert {str(path) for path in Path().rglob("*") if path.is_dir()} == {
        "outputs",
        "outputs/other",
        "mine",
        "mine/run",
    }


def test_a_refused_search_leaves_no_folder(command, tiny_plain):
    outcome = command(search, *tiny_plain, "generator=uniform", "seed=0,1", "search.trials=0")
    assert outcome.errors == "error: search.trials must be at least 1, got 0\n"
    assert list(Path().iterdir()) == []


def test_a_run_that_has_begun_keeps_its_folder(command, tiny_plain):
    options = [*tiny_plain, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=run"]
    assert command(train, *options).code == 0
    assert "already holds a run" in command(train, *options).errors
    assert Path("run/result.json").is_file()
