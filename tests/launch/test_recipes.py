"""Recipes: what `discriminator=NAME` chooses beside the model, and what the user types instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import report, train
from launch.options import check_options
from tests.configs import CONF, composed
from tests.pages import Page

RECIPES = sorted(file.stem for file in (CONF / "recipe").glob("*.yaml") if file.stem != "none")
OTHERS = [
    f"{group}={file.stem}" for group in ("loss", "optimizer", "schedule") for file in (CONF / group).glob("*.yaml")
]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_of_the_model_of_its_name(name: str):
    config = composed("train", f"recipe={name}")
    assert config.discriminator.scoring._target_.split(".")[-2] == name
    check_options(config)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("recipe", ["transe", "complex"])
def test_what_is_typed_instead_gets_no_options_of_what_it_replaces(recipe: str, other: str):
    check_options(composed("train", f"recipe={recipe}", other))


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (["recipe=complex", "loss=self_adversarial"], "loss.margin", 0.0),  # what its scores want
        (["recipe=none", "loss=self_adversarial"], "loss.margin", 6.0),
        (["recipe=complex", "optimizer=rowwise_adagrad"], "optimizer.lr", 0.1),  # not Adam's
        (["recipe=complex"], "optimizer.lr", 0.01),
        (["recipe=complex", "optimizer.lr=0.5"], "optimizer.lr", 0.5),
        (["recipe=complex", "generator=kbgan"], "generator.optimizer.lr", 1e-3),  # the generator's own
        (["experiment=kbgan_fb15k237"], "optimizer.lr", 1e-3),
    ],
)
def test_values_follow_the_choices(options: list[str], key: str, value: Any):
    node = composed("train", *options)
    for part in key.split("."):
        node = node[part]
    assert node == value


def test_the_command_takes_the_recipe_of_a_model_and_a_resumed_run_keeps_it(command, tmp_path: Path):
    short = ["graph.num_people=100", "trainer.epochs=1", "discriminator.dim=4", "launch.device=cpu"]
    outcome = command(train, "discriminator=distmult", *short, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "discriminator.loss.softmax.Softmax" in config and "reciprocal: true" in config
    # 1,711 triples: 50 to 100 steps an epoch would make batches of fewer than 32.
    assert "batch_size: 32\n  chunk_size: 8\n" in config
    outcome = command(train, "resume=run", "trainer.epochs=2")
    assert outcome.code == 0, outcome.errors
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "discriminator.loss.softmax.Softmax" in config and "epochs: 2" in config
    assert yaml.safe_load(config)["typed"][:2] == ["discriminator", "graph.num_people"]
    # The run folder says what was typed.
    outcome = command(report, "run=run", "launch.device=cpu")
    assert outcome.code == 0, outcome.errors
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert "advkge train discriminator=distmult graph.num_people=100" in page.text
    assert "recipe=" not in page.text
    assert command(train, "resume=run", "recipe=transe").code == 1


def test_a_sweep_over_models_names_them_as_they_were_typed(command, warm, tmp_path: Path):
    short = ["graph.num_people=100", "trainer.epochs=1", "discriminator.dim=4", "launch.device=cpu"]
    logging = ["hydra/job_logging=default", "hydra/hydra_logging=default", "hydra.sweep.dir=sweep"]
    outcome = command(train, "--multirun", "discriminator=distmult,complex", *short, *logging)
    assert outcome.code == 0, outcome.errors
    said = outcome.output + outcome.errors
    assert "#1 : discriminator=complex graph.num_people=100" in said and "[HYDRA]" in said
    assert "recipe=" not in said and "categorical units" not in said
    assert (tmp_path / "sweep" / "sweep.csv").read_text().startswith("run,discriminator,valid_mrr")


def test_some_of_a_sweep_without_a_recipe_is_said(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("launch.groups._CONF", tmp_path)
    for name in ("discriminator/mine", "discriminator/transe", "recipe/transe"):
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").touch()
    outcome = command(train, "discriminator=mine,transe", "--multirun")
    assert "conf/recipe has no file for mine, but one for others; add recipe=none to train all alike" in outcome.errors
