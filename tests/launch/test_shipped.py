"""What conf/ says works on every graph and in every run, however small; what makes no sense is said before that."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from graph.errors import InputError
from launch import schema, train
from launch.build import build_run, build_trainer
from launch.combinations import refuse_senseless
from trainer.loop import Trainer
from trainer.runtime import Runtime

CONF = Path(__file__).parents[2] / "conf"
SAMPLERS = sorted(file.stem for file in (CONF / "generator").glob("*.yaml"))


@pytest.fixture
def trainer_of(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tmp_path: Path) -> Callable[..., Trainer]:
    """A run on three entities or on another graph, as `launch/train.py` makes one."""
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    monkeypatch.setenv("ADVKGE_CACHE", environment["ADVKGE_CACHE"])
    monkeypatch.delenv("ADVKGE_DATA", raising=False)
    folder = tmp_path / "three"
    folder.mkdir()
    for split, lines in (("train", "a r b,b r c,a s c"), ("valid", "c r a"), ("test", "c s a")):
        (folder / f"{split}.txt").write_text(lines.replace(" ", "\t").replace(",", "\n") + "\n")
    schema.register()

    def make(*options: str, typed: tuple[str, ...] = (), graph: str = "three", recipe: str = "none") -> Trainer:
        GlobalHydra.instance().clear()
        three = ["graph=folder", f"graph.path={folder}"] if graph == "three" else [f"graph={graph}"]
        if "generator=from_file" in options:  # the only one that needs a file
            (tmp_path / "wrong.tsv").write_text("a\tr\tc\n" if graph == "three" else "usa\tembassy\tusa\n")
            three += [f"generator.file={tmp_path / 'wrong.tsv'}"]
        three += [f"recipe={recipe}", "discriminator.dim=4", f"typed=[{','.join(typed)}]"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [*three, *options])
        trainer = build_trainer(build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0)), tmp_path / "run")
        refuse_senseless(config, trainer)
        return trainer

    return make


@pytest.mark.parametrize(("graph", "recipe"), [("nations", "complex"), ("three", "none")])
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_takes_a_step_as_shipped(name: str, graph: str, recipe: str, trainer_of: Callable[..., Trainer]):
    trainer = trainer_of(f"generator={name}", graph=graph, recipe=recipe)
    for stage in trainer.stages:
        stage.player.start_stage()
        stage.sampler.start_stage()
        assert trainer.train_step(stage, 0).loss > 0


def test_what_is_cut_is_said_and_what_was_typed_is_refused(
    trainer_of: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, logger="launch"):
        trainer_of("generator=kbgan", "trainer.batch_size=32")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("launch")] == [
        "generator.pool_size: 3 instead of 20, for 3 entities",
        "pretrain.generator.sampler.num_negatives: 3 instead of 19, for 3 entities",
    ]
    with pytest.raises(InputError, match=r"generator.pool_size must not exceed the graph's 3 entities, got 20"):
        trainer_of("generator=kbgan", typed=("generator.pool_size",))
    with pytest.raises(InputError, match=r"in-batch negatives .* trainer.chunk_size is 1: set it to at least 2"):
        trainer_of("generator=in_batch", typed=("trainer.chunk_size",))


def test_a_sample_of_valid_triples_is_cut_or_refused(
    trainer_of: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, logger="launch.typed"):
        trainer = trainer_of("generator=uniform", "trainer.valid_sample=5")
    assert "trainer.valid_sample: all 1 valid triples instead of 5" in caplog.messages
    assert trainer.validation.name == "valid/mrr"
    with pytest.raises(InputError, match=r"trainer.valid_sample must be .* at most the 1 valid triples, .* got 5"):
        trainer_of("generator=uniform", "trainer.valid_sample=5", typed=("trainer.valid_sample",))


def test_the_command_knows_what_was_typed(command):
    small = ["graph=nations", "trainer.epochs=1", "launch.device=cpu", "discriminator.dim=4", "hydra.run.dir=run"]
    outcome = command(train, *small, "generator=kbgan", "generator.pool_size=20")
    assert outcome.errors == "error: generator.pool_size must not exceed the graph's 14 entities, got 20\n"


@pytest.mark.parametrize(
    ("options", "typed", "message"),
    [
        (
            ["loss=k_vs_all", "generator=kbgan"],
            (),
            "loss=k_vs_all .* no negatives, so kbgan would draw them for nothing",
        ),
        (["loss=one_vs_all", "generator=nscaching"], (), "loss=one_vs_all .* take generator=uniform"),
        (["loss=nce", "generator=kbgan"], (), "loss=nce needs a generator that knows the probability of each draw"),
        (["loss=sampled_softmax", "generator=diverse"], (), "loss.log_q=true needs a generator that knows"),
        (["loss=hasa", "generator=kbgan"], (), "loss=hasa needs a generator that marks negatives"),
        (
            ["loss@pretrain.generator.loss=nce", "pretrain.generator.sampler.redraw_known=true"],
            (),
            "pretrain.generator: loss=nce needs a generator that knows",
        ),
        (
            ["generator=uniform", "generator.redraw_known=true", "trainer.chunk_size=4"],
            (),
            "generator.redraw_known needs",
        ),
        (
            ["generator=mixture", "generator.parts.easy.redraw_known=true", "trainer.chunk_size=4"],
            (),
            "generator.parts.easy.redraw_known needs separate negatives for each positive",
        ),
        (
            ["generator=mixture", "generator@generator.parts.hard=kbgan", "generator.parts.hard.estimator=exact"],
            (),
            "generator.parts.hard needs the reward of all candidates",
        ),
        (["schedule=plateau", "trainer.valid_every=0"], (), "schedule=plateau .* this run has none"),
        (
            ["trainer.patience=3", "trainer.valid_every=0"],
            ("trainer.patience",),
            "trainer.patience=3 has no effect, because trainer.valid_every=0",
        ),
        (
            ["trainer.metric=hits@3", "trainer.valid_every=0", "generator=uniform"],
            ("trainer.metric",),
            "trainer.metric=hits@3 has no effect, because this run has no validation",
        ),
        (["generator=uniform", "reward=band"], ("reward",), "reward: uniform does not learn from rewards"),
        (
            ["generator.estimator=exact", "baseline@generator.baseline=running_mean"],
            ("generator.baseline",),
            "generator.baseline: generator.estimator=exact takes no baseline",
        ),
        (
            ["generator=curriculum", "generator.hard.num_negatives=4"],
            ("generator.hard.num_negatives",),
            "generator.hard.num_negatives is not used",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_said_before_any_stage(
    options: list[str], typed: tuple[str, ...], message: str, trainer_of: Callable[..., Trainer]
):
    with pytest.raises(InputError, match=message):
        trainer_of(*options, typed=typed)


def test_the_command_refuses_it_before_it_trains(command, tiny):
    outcome = command(train, *tiny, "loss=nce", "hydra.run.dir=run")
    assert re.fullmatch(r"error: loss=nce needs a generator that knows .*\n", outcome.errors)
    assert not Path("run/metrics.jsonl").exists()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_knows_what_it_gives(name: str, trainer_of: Callable[..., Trainer]):
    trainer = trainer_of(f"generator={name}")
    stage = trainer.stages[-1]
    batch = stage.order.batch(0)
    negatives = stage.sampler.propose(batch, lambda entity: stage.player.score_candidates(batch, entity))
    # A curriculum begins with uniform negatives alone, whose proposal is known; it says what holds in every step.
    assert stage.sampler.knows_proposal == (negatives.proposal is not None and name != "curriculum")
    assert stage.sampler.suspects == (negatives.suspected is not None)
    assert stage.sampler.rewards_pool == negatives.reward_pool


def test_a_short_run_logs_and_validates_often_enough(command):
    small = ["graph=nations", "discriminator.dim=4", "launch.device=cpu", "trainer.batch_size=64", "trainer.epochs=2"]
    outcome = command(train, *small, "generator=kbgan", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for stage, epochs in (("pretrain_generator", 1), ("pretrain_discriminator", 1), ("adversarial", 2)):
        own = [line for line in lines if line["stage"] == stage]
        assert len([line for line in own if "loss" in line]) >= 20
        assert len([line for line in own if "valid/mrr" in line]) >= 3
        assert {line["epoch"] for line in own} == set(range(epochs))
