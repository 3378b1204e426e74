"""A trained model may be asked with its entity rows in files, whatever held them in training."""

import json
import shutil
from pathlib import Path

import pytest

import advkge
from graph.errors import InputError
from launch import discover, evaluate, predict, similar, train
from launch.saved_run import load_run
from launch.trained_options import GraphPlace, SavedRunOptions
from trainer.runtime import Runtime


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_rows_are_in_files_if_asked_or_if_trained_so(run_copy, command, tiny_plain, tmp_path):
    options = ("generator=uniform", "generator.num_negatives=4", "optimizer=lazy_adam", "placement.storage=disk")
    assert command(train, *tiny_plain, *options, f"hydra.run.dir={tmp_path / 'disk'}").code == 0
    for run, storage, in_files in (
        (run_copy, None, False),
        (run_copy, "disk", True),
        (tmp_path / "disk", None, True),
        (tmp_path / "disk", "memory", False),
    ):
        asked = SavedRunOptions(str(run), None, GraphPlace(None, None, None))
        loaded, _ = load_run(asked, Runtime.start(device="cpu", timeout_seconds=1.0), storage=storage)
        assert (loaded.discriminator.site.storage is not None) == in_files, (run, storage)


@pytest.mark.parametrize("ranks", [1, 2])
def test_commands_answer_the_same(ranks, run_copy, command, tmp_path, warm):
    for module, asked in (
        (predict, ["head=person_90", "relation=parent_of"]),
        (similar, ["entity=person_90"]),
        (discover, ["k=20"]),
    ):
        found = []
        for storage in ("memory", "disk"):
            out = tmp_path / f"{storage}.tsv"
            options = [f"run={run_copy}", f"storage={storage}", f"launch.ranks={ranks}", f"out={out}"]
            outcome = command(module, *asked, *options)
            assert outcome.code == 0, outcome.errors
            found.append(out.read_text())
        assert found[0] == found[1], module


def test_evaluate_finds_the_same(run_copy, command, tmp_path):
    assert command(evaluate, f"run={run_copy}", "storage=disk", f"out={tmp_path}/found.json").code == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["test"] == json.loads((run_copy / "result.json").read_text())["test"]


def test_python_answers_the_same(run_copy):
    in_memory, on_disk = advkge.load(run_copy), advkge.load(run_copy, storage="disk")
    asked = in_memory.entity_names[0], in_memory.relation_names[0]
    assert in_memory.tails(*asked, k=5) == on_disk.tails(*asked, k=5)


def test_a_storage_that_is_none_is_refused(run_copy, command):
    outcome = command(predict, f"run={run_copy}", "head=x", "relation=y", "storage=tape")
    assert "storage must be memory, disk or null, got 'tape'" in outcome.errors


def test_rows_of_an_encoder_can_not_be_in_files(command, tiny_plain, tmp_path):
    options = (
        "encoder=linear",
        "discriminator.max_norm=null",
        "generator=uniform",
        "trainer.epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert command(train, *tiny_plain, *options).code == 0
    with pytest.raises(InputError, match="storage=disk: the rows that an encoder makes are in memory"):
        advkge.load(tmp_path / "run", storage="disk")
