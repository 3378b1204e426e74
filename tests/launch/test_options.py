"""Options that are refused before anything is built: by one line, which names the key."""

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, flag_override

from graph.errors import InputError
from launch import evaluate, export, schema, train
from launch.groups import settle_choices
from launch.options import check_options, check_sections
from launch.typed import typed_options

CONF = Path(__file__).parents[2] / "conf"
LONG = "a" * 5000


@pytest.fixture
def composing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


composed = cache(lambda choices: compose("train", ["recipe=none", *choices]))


def config_of(*options: str) -> DictConfig:
    """What hydra makes of these, composed once for each set of choices, for that takes a second."""
    parsed = OverridesParser.create().parse_overrides(list(options))
    chosen = [(CONF / each.key_or_group).is_dir() and not each.is_delete() for each in parsed]
    config = deepcopy(composed(tuple(option for option, is_choice in zip(options, chosen, strict=True) if is_choice)))
    for each, is_choice in zip(parsed, chosen, strict=True):
        if each.is_delete():
            owner, name = each.key_or_group.rsplit(".", 1)
            with flag_override(OmegaConf.select(config, owner), "struct", False):
                del OmegaConf.select(config, owner)[name]
        elif not is_choice:
            OmegaConf.update(config, each.key_or_group, each.value(), force_add=each.is_add())
    return config


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["generator.model=complex"],
            "generator.model must be chosen from a group, discriminator@generator.model=complex",
        ),
        (
            ["generator.optimizer=lazy_adam"],
            "generator.optimizer .* group, optimizer@generator.optimizer=lazy_adam, got",
        ),
        (["generator.baseline=null"], "generator.baseline .* group, baseline@generator.baseline=NAME, got None"),
        (
            ["generator=curriculum", "generator.hard=nscaching"],
            "generator.hard .* generator@generator.hard=nscaching, got",
        ),
        (["pretrain.generator.loss=softmax"], "pretrain.generator.loss .* loss@pretrain.generator.loss=softmax, got"),
        (
            ["discriminator.scoring=complex"],
            "discriminator.scoring comes with the choice of a model, discriminator=complex",
        ),
        (["term=[n3]", "terms.n3=5"], r"terms.n3 must be chosen from a group, term=\[NAME\], got 5"),
        (["generator=curriculum", "generator.share=null"], "generator.share must be a list, .* got None"),
        (["generator=curriculum", "generator.share=[0,a]"], r"generator.share\[1\] must be a number, got 'a'"),
        (["generator=curriculum", "generator.share=[0,nan]"], r"generator.share\[1\] must be a finite number, got nan"),
        (["optimizer.lr={a:1}"], "optimizer.lr must be a number, got {'a': 1}"),
        (["~optimizer.lr"], "optimizer.lr is missing"),
        (["~generator.optimizer"], "generator.optimizer is missing"),
        (["optimizer._partial_=false"], "optimizer needs optimizer._partial_=true .* completed later, with model"),
        (["+loss._partial_=true"], "loss needs loss._partial_=false beside its choice, because it is complete"),
        (["+loss._args_=[1]"], "loss._args_: .* has no such option; it has margin"),
        (["loss._target_=os.getcwd"], "loss._target_ must name a Loss or TableLoss, got 'os.getcwd'"),
        (["loss._target_=nowhere.Loss"], "loss._target_ must name a class of this project, got 'nowhere.Loss'"),
        (["generator=mixture", "generator.parts=3"], "generator.parts must hold choices by name, as in conf/, got 3"),
        (
            ["discriminator.scoring._target_=3"],
            "discriminator.scoring._target_ must name a class of this project, got 3",
        ),
        (["generator.model.dim=-1"], "generator.model.dim is set by generator.dim, which is 50, got -1"),
        (["generator.optimizer.lr=nan"], "generator.optimizer.lr must be a finite number, got nan"),
        (["generator.model.init_scale=1e308"], "generator.model.init_scale must be from .* got 1e\\+308"),
        (["generator.num_negatives=9223372036854775808"], "generator.num_negatives must be below 2147483648, got 9223"),
        (["seed=9223372036854775808"], "seed must be below 9223372036854775808, got 9223"),
        (["trainer.epochs=9223372036854775808"], "trainer.epochs must be below 2147483648, got 9223"),
        (["discriminator.dim=2000000000"], "discriminator.dim must be below 1048576, got 2000000000"),
        (
            ["graph=folder", f"graph.path=x/{LONG}"],
            "graph.path must be a name of at most 255 bytes, .* got 5002 characters",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_says_which_option_is_wrong_and_why(options: list[str], message: str):
    with pytest.raises(InputError) as refused:
        check_options(config_of(*options))
    assert re.match(message, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    "options",
    [
        ["seed=9223372036854775807"],
        ["generator=mixture", "+generator@generator.parts.more=typed", "+generator.parts.more._partial_=true"],
        ["generator=mixture", "+generator@generator.parts.more=typed"],
        ["discriminator@generator.model=complex", "optimizer@generator.optimizer=lazy_adam"],
        ["generator=curriculum", "generator.pool_size=[4,8]"],
        ["loss=k_vs_all", "discriminator=transr", "quality=sampled"],
    ],
    ids=" ".join,
)
def test_takes_what_is_right(options: list[str]):
    check_options(config_of(*options))


@pytest.mark.parametrize(
    ("typed", "settled"),
    [
        (["tracker=null"], ["tracker=[]"]),
        (["term=null"], ["term=[]"]),
        (["tracker=wandb", "seed=1", "tracker=null"], ["seed=1", "tracker=[]"]),
        (["average=ema", "average=null"], ["~average"]),
        (["quality=null", "experiment=null"], ["~quality", "~experiment"]),
        (
            ["term=[n3,l2]", "generator=uniform,kbgan", "--multirun"],
            ["term=[n3,l2]", "generator=uniform,kbgan", "--multirun"],
        ),
        (["optimizer=mine", "--config-dir=here"], ["optimizer=mine", "--config-dir=here"]),
        (["generator=glob(*)", "optimizer.lr=null"], ["generator=glob(*)", "optimizer.lr=null"]),
        (["seed=1", "discriminator=rotate"], ["seed=1", "recipe=rotate"]),
        (["discriminator=rotate,transe", "-m"], ["recipe=rotate,transe", "-m"]),
        (["discriminator=rotate", "recipe=transe"], ["discriminator=rotate", "recipe=transe"]),
        (["discriminator=rotate", "experiment=demo"], ["discriminator=rotate", "experiment=demo"]),
        (["discriminator@generator.model=complex"], ["discriminator@generator.model=complex"]),
        (["generator@generator.parts.more=typed"], ["+generator@generator.parts.more=typed"]),
        (["+generator@generator.parts.more=typed"], ["+generator@generator.parts.more=typed"]),
        (["generator@generator.parts.hard=typed"], ["generator@generator.parts.hard=typed"]),
        (["discriminator=mine", "--config-dir=here"], ["discriminator=mine", "recipe=none", "--config-dir=here"]),
    ],
)
def test_choices_are_settled(typed: list[str], settled: list[str]):
    assert settle_choices(typed) == settled


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "discriminator=complx",
            "discriminator=complx: there is no such discriminator; did you mean complex? There are",
        ),
        ("term=[n33,l2]", "term=n33: there is no such term; did you mean n3? There are l2, n3"),
        ("placement=null", "placement=null: there is no such placement; there are metis, random"),
        ("quality=true", "quality=true: there is no such quality; there are sampled; quality=null for none"),
        ("graph=/tmp", "graph=/tmp is a folder: type graph=folder graph.path=/tmp"),
        ("term=[n3,n4]", "term=n4: there is no such term; there are l2, n3, relation_prediction"),
        (
            "optimizer=adam,typo",
            "optimizer=typo: there is no such optimizer; there are adam, lazy_adam, rowwise_adagrad",
        ),
        ("optimizer=../x", "optimizer=../x: there is no such optimizer; there are adam, lazy_adam, rowwise_adagrad"),
        ("baseline@generator.baseline=typo", "baseline@generator.baseline=typo: there is no such baseline; there are"),
        (f"resume={LONG}", "resume must be a name of at most 255 bytes, or a path of such names, got 5000 characters"),
        (f"hydra.run.dir=x/{LONG}", "hydra.run.dir must be a name of at most 255 bytes"),
        (f"optimizer={LONG}", f"optimizer={LONG[:55]} ...: there is no such optimizer; there are adam"),
    ],
)
def test_a_choice_that_is_none_lists_what_there_is(typed: str, message: str):
    with pytest.raises(InputError) as refused:
        settle_choices([typed])
    assert str(refused.value).startswith(message)


def test_an_experiment_has_its_recipe():
    with pytest.raises(InputError, match="an experiment names its recipe, and its model with it"):
        settle_choices(["experiment=demo", "recipe=none"])


def test_what_was_typed():
    typed = ["generator@generator.parts.hard=near_miss", "generator.parts={a: {b: 1}}", "~x", "reward=band", "seed=0,1"]
    keys = [
        "generator.parts.hard",
        "generator.parts",
        "generator.parts.a",
        "generator.parts.a.b",
        "x",
        "reward",
        "seed",
    ]
    assert typed_options(typed) == keys


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize("key", ["launch", "terms", "pretrain.generator"])
def test_a_section_that_was_typed_over_is_said(key: str):
    config = config_of()
    OmegaConf.update(config, key, "${seed}", merge=False)
    with pytest.raises(InputError, match=f"{key} must hold options, as in conf/train.yaml, got 0"):
        check_sections(config)


def test_a_value_that_omegaconf_cant_give_is_one_line(command, tiny_plain):
    outcome = command(train, *tiny_plain, "generator=uniform", "optimizer.lr=${nowhere}", "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.errors.splitlines()[-1] == "error: optimizer.lr: Interpolation key 'nowhere' not found"


def test_a_run_folder_that_cant_be_made_is_one_line(command, tiny_plain):
    outcome = command(train, *tiny_plain, "generator=uniform", f"hydra.run.dir={os.devnull}/run")
    assert outcome.code == 1
    assert re.fullmatch(r"error: the options can't be composed: NotADirectoryError: .*\n", outcome.errors)


@pytest.mark.parametrize("module", [evaluate, export])
@pytest.mark.parametrize("key", ["run", "out", "checkpoint"])
def test_a_name_that_is_too_long_is_one_line(module, key, command):
    others = {"run": ["out=x"], "out": ["run=x"], "checkpoint": ["run=x", "out=x"]}[key]
    outcome = command(module, *others, f"{key}={LONG}")
    assert outcome.code == 1
    assert re.fullmatch(rf"error: {key} must be a name of at most 255 bytes, .*\n", outcome.errors)
