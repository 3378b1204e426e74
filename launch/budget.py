"""Finds the number of epochs for a budget of scored candidates, by counting the candidates of some steps."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from graph.errors import InputError
from launch.build import build_run, build_trainer
from trainer.loop import Trainer
from trainer.runtime import Runtime
from trainer.scored import ScoredCandidates
from trainer.stage import Stage

_LATE_EPOCH = 100_000
"""An epoch after the end of every schedule that depends on the number of steps."""


@dataclass(frozen=True)
class _StageCost:
    """The number of candidates that a stage scores."""

    once: int
    """Candidates that only the first step scores, such as for lists that a sampler makes from a model."""
    an_epoch: int


def epochs_within(config: DictConfig, budget: int) -> int:
    """The largest number of epochs of the last stage with which all stages score at most `budget` candidates.

    It runs four steps of each stage in this process, two at the start and two late ones, and discards the results. If
    late steps score more, as with a curriculum, all steps are counted like them: the run may stay below the budget.

    Args:
        config: the config of a run; `trainer.epochs` is overwritten. Epochs of pre-training may depend on it.
    Raises:
        InputError: a single epoch exceeds the budget.
    """
    cost = _measure(config)

    def total(epochs: int) -> int:
        config.trainer.epochs = epochs
        each = {
            "pretrain_generator": config.pretrain.generator,
            "pretrain_discriminator": config.pretrain.discriminator,
        }
        counts = {name: each[name].epochs if name in each else epochs for name in cost}
        return sum(cost[name].once + count * cost[name].an_epoch for name, count in counts.items() if count)

    if total(1) > budget:
        raise InputError(f"scorecard.budget must allow one epoch, which scores {total(1)} candidates, got {budget}")
    least, most = 1, 2
    while total(most) <= budget:
        least, most = most, 2 * most
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if total(middle) <= budget else (least, middle)
    return least


def _measure(config: DictConfig) -> dict[str, _StageCost]:
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0))
        trainer = build_trainer(run, Path(folder))
        scored = ScoredCandidates(player.model for player in trainer.players.values())
        return {stage.name: _measure_stage(trainer, stage, scored) for stage in trainer.stages}


def _measure_stage(trainer: Trainer, stage: Stage, scored: ScoredCandidates) -> _StageCost:
    stage.player.start_stage()
    stage.sampler.start_stage()
    counts = []
    second = 1 % stage.order.steps_per_epoch
    late = _LATE_EPOCH * stage.order.steps_per_epoch
    # The last step of an epoch may be smaller, so costs are counted for each positive.
    for number in (0, second, late, late + second):
        scored.count = 0
        trainer.train_step(stage, number)
        counts.append(scored.count)
    positives = stage.order.num_chunks * stage.order.chunk_size
    in_first = len(stage.order.batch(0).head)
    in_second = len(stage.order.batch(second).head)
    an_epoch = round(max(counts[1], counts[3]) * positives / max(in_second, 1))
    return _StageCost(max(0, counts[0] - round(counts[1] * in_first / max(in_second, 1))), an_epoch)
