"""Runs on a folder that has no valid or no test file."""

import json
from pathlib import Path

import pytest

from launch import evaluate, train

OPTIONS = (
    "recipe=none",
    "graph=folder",
    "discriminator.dim=4",
    "generator.dim=4",
    "generator.pool_size=4",
    "trainer.batch_size=4",
    "trainer.epochs=2",
    "trainer.log_every=1",
    "trainer.valid_every=1",
    "launch.device=cpu",
    "hydra.run.dir=run",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "triples"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"e{i}\tr{i % 2}\te{i * i % 11}\n" for i in range(12)))
    return folder


def test_without_valid_and_test_a_run_trains_for_its_epochs_and_ranks_nothing(command, folder, tmp_path):
    outcome = command(train, *OPTIONS, f"graph.path={folder}")
    assert outcome.code == 0, outcome.errors
    assert "not ranked on valid: triples has no valid triples" in outcome.output
    assert "not ranked on test: triples has no test triples" in outcome.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "valid" not in result and "test" not in result
    last_stage = 2 * 3
    assert result["best_step"] == result["steps"] == result["stages"]["pretrain_discriminator"] + last_stage
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == result["steps"] and not any("valid/mrr" in line for line in lines)

    for split in ("valid", "test"):
        outcome = command(evaluate, "run=run", f"split={split}")
        assert outcome.code == 1 and f"error: split={split}: triples has no {split} triples" in outcome.errors
    assert command(train, "resume=run").code == 0  # finished; its report is printed again


@pytest.mark.parametrize("key", ["trainer.patience", "pretrain.discriminator.patience"])
def test_early_stopping_that_was_asked_for_needs_valid_triples(command, folder, tmp_path, key):
    outcome = command(train, *OPTIONS, f"graph.path={folder}", f"{key}=3")
    assert outcome.code == 1
    assert f"error: {key}: early stopping goes by validation, but triples has no valid triples" in outcome.errors
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_goes_by_validation_needs_valid_triples(command, folder, tmp_path):
    outcome = command(train, *OPTIONS, f"graph.path={folder}", "schedule=plateau")
    assert outcome.code == 1
    assert "error: schedule=plateau goes by validation, but this run has none" in outcome.errors
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_without_test_the_table_has_validation_alone(command, folder, tmp_path):
    (folder / "valid.txt").write_text("e1\tr0\te2\n")
    outcome = command(train, *OPTIONS, f"graph.path={folder}", "trainer.patience=3")
    assert outcome.code == 0, outcome.errors
    assert "valid both" in outcome.output and "test both" not in outcome.output
    assert "not ranked on test: triples has no test triples" in outcome.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["valid"]["both"]["count"] == 2 and "test" not in result
