"""Refuses combinations of options that make no sense, before the first step of the first stage."""

from typing import Any

from omegaconf import DictConfig

from discriminator.loss.loss import no_proposal, no_suspects
from discriminator.loss.table_loss import TableLoss
from generator.kbgan import KBGANSampler
from generator.mixture import MixtureSampler, errors_of
from generator.sampler import NegativeSampler
from generator.uniform import UniformSampler
from graph.errors import InputError
from trainer.loop import Trainer
from trainer.schedule.plateau import Plateau
from trainer.stage import Stage


def refuse_senseless(config: DictConfig, trainer: Trainer) -> None:
    """Checks that the loss of each stage fits its sampler, and that no typed option is without effect.

    Raises:
        InputError: names both options and says what to use instead.
    """
    for stage in reversed(trainer.stages):
        _check_stage(config, stage, is_last=stage is trainer.stages[-1])
    last = trainer.stages[-1]
    if isinstance(last.schedule, Plateau) and not last.valid_every:
        raise InputError(
            "schedule=plateau goes by validation, but this run has none: trainer.valid_every is 0, or the graph has no "
            "valid triples; take another schedule, such as schedule=cosine"
        )
    if last.average is not None:
        last.average.check_stage(last.steps, validated=last.valid_every > 0)
    sampler = last.sampler
    typed: list[str] = list(config.get("typed") or ())
    if "trainer.patience" in typed and last.patience and not last.valid_every:
        raise InputError(
            f"trainer.patience={last.patience} has no effect, because trainer.valid_every=0 means no validation; leave "
            "one of them out"
        )
    if "rounding" in typed and config.dtype != "bfloat16":
        raise InputError(
            f"rounding={config.rounding} has no effect with dtype={config.dtype}; leave it out, or take dtype=bfloat16"
        )
    for name in ("metric", "valid_sample"):
        if f"trainer.{name}" in typed and not any(stage.valid_every for stage in trainer.stages):
            raise InputError(
                f"trainer.{name}={config.trainer[name]} has no effect, because this run has no validation: "
                "trainer.valid_every is 0, or the graph has no valid triples; leave it out"
            )
    reward = next((key for key in typed if key.split(".")[0] == "reward"), None)
    if reward is not None and sampler.model is None:
        raise InputError(
            f"{reward}: {_name(config.generator)} does not learn from rewards; take a generator that does, such as "
            "generator=kbgan, or leave the reward out"
        )
    if config.generator.get("hard") is not None and "generator.hard.num_negatives" in typed:
        raise InputError(
            "generator.hard.num_negatives is not used: generator.num_negatives and generator.share say how many "
            f"negatives are hard, got {config.generator.hard.num_negatives}"
        )
    _check_baseline("generator", sampler, typed)


def _check_stage(config: DictConfig, stage: Stage, *, is_last: bool) -> None:
    loss, sampler = stage.player.loss, stage.sampler
    options: Any = config if is_last else config.pretrain[stage.trained]
    prefix = "" if is_last else f"pretrain.{stage.trained}: "
    with errors_of("generator" if is_last else f"pretrain.{stage.trained}.sampler"):
        sampler.check_chunk_size(stage.order.chunk_size)
    if stage.player.terms and not stage.player.model.has_vectors:
        raise InputError(
            f"{prefix}term: terms are about vectors of entities, and {stage.trained} has none; leave out terms, "
            f"term=[], got {', '.join(config.terms)}"
        )
    if isinstance(loss, TableLoss):
        # These samplers cost almost nothing, and choose the corrupted side, which such a loss needs.
        if not isinstance(sampler, UniformSampler):
            chosen = options.generator if is_last else options.sampler
            raise InputError(
                f"{prefix}loss={_name(options.loss)} compares each positive with all entities and learns from no "
                f"negatives, so {_name(chosen)} would draw them for nothing; take generator=uniform "
                "generator.num_negatives=1 (or bernoulli, cardinality), or a loss of negatives, such as loss=softmax"
            )
        if stage.player.model.samples_neighbours:
            raise InputError(
                f"{prefix}loss={_name(options.loss)} compares each positive with all entities, and encoder.fanout="
                f"{config.encoder.fanout} makes only the rows that a step looks up; take encoder.fanout=null, or a "
                "loss of negatives, such as loss=softmax"
            )
        return
    if loss.needs_proposal is not None and not sampler.knows_proposal:
        raise InputError(f"{prefix}{no_proposal(loss.needs_proposal)}")
    if loss.needs_suspects and not sampler.suspects:
        raise InputError(f"{prefix}{no_suspects(f'loss={_name(options.loss)}')}")


def _check_baseline(key: str, sampler: NegativeSampler, typed: list[str]) -> None:
    if isinstance(sampler, MixtureSampler):
        for name, part in sampler.parts.items():
            _check_baseline(sampler.key_of(name), part, typed)
    elif isinstance(sampler, KBGANSampler) and (sampler.rewards_pool or not sampler.replacement):
        baseline = next((each for each in typed if f"{each}.".startswith(f"{key}.baseline.")), None)
        if baseline is not None:
            why = "estimator=exact" if sampler.rewards_pool else "replacement=false"
            raise InputError(
                f"{baseline}: {key}.{why} takes no baseline; leave it out, or set {key}.estimator=reinforce and "
                f"{key}.replacement=true"
            )


def _name(node: DictConfig) -> str:
    """The name of a choice: that of its module, which is also the name of its yaml."""
    return str(node._target_).split(".")[-2]
