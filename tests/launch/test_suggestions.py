"""A mistyped option names the nearest ones; `--help` shows a command's own; a reader that leaves is no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import evaluate, export, scorecard, train

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "typed", "meant"),
    [
        (train, ["generator=uniform", "optimizer.learning_rate=1"], "; did you mean optimizer.lr?"),
        (train, ["epochs=3"], "; did you mean trainer.epochs, pretrain."),
        (train, ["generater=kbgan"], "; did you mean generator?"),
        (train, ["optimiser.lr=1"], "; did you mean optimizer.lr"),
        (train, ["generator=nscaching", "generator.negatives=2"], "; did you mean generator.num_negatives?"),
        (train, ["generator=uniform", "generator.typo=1"], "; generator has num_negatives, mask_known"),
        (train, ["hydra.run.dri=x"], "; did you mean hydra.run.dir?"),
        (train, ["zzz=1"], "there is no such option\n"),
        (evaluate, ["splt=test"], "; did you mean split?"),
        (export, ["outt=x"], "; did you mean out?"),
        (scorecard, ["scorecard.seed=[1]"], "; did you mean scorecard.seeds"),
        (scorecard, ["scorecard.generators=[uniform]", "batch_size=4"], "; did you mean trainer.batch_size?"),
    ],
)
def test_a_mistyped_option_suggests_the_nearest(module, typed, meant, command):
    outcome = command(module, *typed)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    key = typed[-1].partition("=")[0].lstrip("~")
    assert outcome.errors.startswith(f"error: {key}: there is no such option")
    assert meant in outcome.errors


@pytest.mark.parametrize(
    ("module", "own"),
    [
        (evaluate, ["split: test", "graph:", "timeout_seconds: 600  # how long"]),
        (export, ["out: null  ", "graph:"]),
        (scorecard, ["scorecard:", "budget: 120_000_000"]),
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_a_command_s_own_options(module, own, flag, command):
    outcome = command(module, flag)
    assert outcome.code == 0
    assert [line for line in own if line not in outcome.output] == []
    assert not [word for word in ("defaults:", "hydra", "discriminator:", "trainer:") if word in outcome.output]


def test_a_path_without_its_graph_says_what_to_type(command):
    outcome = command(train, "graph.path=here", "discriminator=complex")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert "graph.path needs graph=folder: type graph=folder graph.path=DIR" in outcome.errors


def test_help_of_train_shows_groups_and_options(command):
    outcome = command(train, "--help", "generator=uniform")
    assert outcome.code == 0
    assert "generator: bernoulli, cardinality" in outcome.output
    first = outcome.output[: outcome.output.index("generator: bernoulli")]
    assert "hydra.run.dir=runs/first       the run folder" in first and "tracker=[csv] " in first
    assert "num_negatives: ${suggested:num_negatives,64}\n" in outcome.output
    assert "Where it says suggested:KEY,VALUE below, an option is what the recipe suggests" in outcome.output


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_end_a_run(environment, tiny_plain, tmp_path):
    read, write = os.pipe()
    os.close(read)
    words = [ROOT / "launch/train.py", *tiny_plain, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "run/result.json").exists()
