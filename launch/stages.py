"""The stages of a run: pre-training of each player, if it is asked for, then the run's own stage."""

from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig

from discriminator.discriminator import Discriminator
from embedding.model import KGEModel
from generator.sampler import NegativeSampler
from graph.errors import InputError
from graph.sampling import PositiveOrder
from graph.subsampling import subsampling_weights
from launch.built_run import Run
from launch.parts import build_loss, build_sampler, build_term, instantiate, name_key
from launch.typed import is_typed
from trainer.schedule.constant import Constant
from trainer.stage import PRETRAINING, Stage

_FEWEST_LINES = 20
"""Log lines of a stage, at least."""
_FEWEST_VALIDATIONS = 3
"""Validations of a stage, at least."""


def build_stages(run: Run, sampler: NegativeSampler, models: dict[str, KGEModel]) -> list[Stage]:
    """Makes the stages in the order in which they run.

    Args:
        sampler: of the run's own stage.
        models: by name, all that the run trains: "discriminator", and "generator" if the sampler has a model.
    Raises:
        InputError: an option is wrong, or asks for pre-training of a model that the run does not have.
    """
    # Made first: a player adds its loss to the model, in place of an earlier one, and the first stage needs its own.
    last = _last_stage(run, sampler)
    return [*_pretraining(run, "generator", models), *_pretraining(run, "discriminator", models), last]


def _pretraining(run: Run, name: str, models: dict[str, KGEModel]) -> list[Stage]:
    """The stage that pre-trains a model; empty if it is skipped or a checkpoint is given."""
    options = run.config.pretrain[name]
    if options.checkpoint is not None or options.epochs == 0:
        return []
    if name not in models:
        raise InputError(
            f"pretrain.{name}.epochs is {options.epochs}, but this run's generator has no model of its own; "
            f"type pretrain.{name}.epochs=0"
        )
    if options.sampler is None or options.loss is None:
        raise InputError(
            f"pretrain.{name}.epochs is {options.epochs}, but its sampler or its loss is not set; type "
            f"pretrain.{name}.epochs=0, or set both with pretrain=nearest"
        )
    context = replace(run.context, player=models[name])
    sampler = build_sampler(options.sampler, context, f"pretrain.{name}.sampler")
    stage = Stage(
        name=f"{PRETRAINING}{name}",
        trained=name,
        player=_player(run, models[name], options.loss, generator=name == "generator"),
        sampler=sampler,
        order=_order(run, sampler),
        epochs=options.epochs,
        valid_every=options.valid_every,
        patience=options.patience,
        schedule=Constant(warm_up=0.0),
        average=None,
        **_fewest(run.config, f"pretrain.{name}"),
    )
    return [stage]


def _last_stage(run: Run, sampler: NegativeSampler) -> Stage:
    """The run's own stage, after pre-training."""
    config, options = run.config, run.config.trainer
    return Stage(
        name="training" if sampler.model is None else "adversarial",
        trained="discriminator",
        player=_player(run, run.discriminator, config.loss),
        sampler=sampler,
        order=_order(run, sampler),
        epochs=options.epochs,
        valid_every=options.valid_every,
        patience=options.patience,
        schedule=name_key("schedule", lambda: instantiate(config.schedule)),
        average=None if config.average is None else name_key("average", lambda: instantiate(config.average)),
        **_fewest(config, "trainer"),
    )


def _fewest(config: DictConfig, key: str) -> dict[str, int]:
    """Fewest log lines and validations of a stage; 0 for an interval that the user typed, which is kept as it is."""
    lines = 0 if is_typed(config, "trainer.log_every") else _FEWEST_LINES
    kept = is_typed(config, "trainer.valid_every") or is_typed(config, f"{key}.valid_every")
    return {"fewest_lines": lines, "fewest_validations": 0 if kept else _FEWEST_VALIDATIONS}


def _player(run: Run, model: KGEModel, loss: DictConfig, *, generator: bool = False) -> Discriminator:
    """What trains a model in a stage. While the generator is pre-trained it is one too, without terms of the loss."""
    config = run.config
    optimizer = instantiate(config.generator.optimizer if generator else config.optimizer)
    terms = [] if generator else [build_term(term, run.context) for term in config.terms.values()]
    reward = instantiate(config.reward)
    judge = build_loss(loss, run.context.known)
    make = partial(Discriminator, model, loss=judge, reward=reward, optimizer=optimizer, terms=terms)
    return name_key("generator" if generator else "optimizer", make)


def _order(run: Run, sampler: NegativeSampler) -> PositiveOrder:
    """The order of the positives in a stage."""
    train, states = run.positives
    subsampling = run.config.trainer.subsampling
    looks_up = subsampling or states is not None
    return PositiveOrder(
        train,
        sampler.head_probability,
        batch_size=run.config.trainer.batch_size,
        chunk_size=run.config.trainer.chunk_size,
        sides=run.config.trainer.sides,
        seed=run.config.seed,
        weight=partial(subsampling_weights, run.graph.known) if subsampling else None,
        states=states,
        device=torch.device("cpu") if looks_up else run.runtime.device,
    )
