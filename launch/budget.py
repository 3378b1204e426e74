"""How many epochs of a run score so many candidates: found by counting what its first steps score."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from graph.errors import InputError
from launch.build import build_run, build_trainer
from launch.splits import needs_split
from trainer.loop import Trainer
from trainer.runtime import Runtime
from trainer.scored import ScoredCandidates
from trainer.stage import Stage

_LATE_EPOCH = 100_000
"""By then every schedule that goes by steps has come to its end."""


@dataclass(frozen=True)
class _StageCost:
    """Candidates that a stage scores."""

    once: int
    """By its first step alone, beyond what every step scores: lists that are made of a model, for example."""
    an_epoch: int


def epochs_within(config: DictConfig, budget: int) -> int:
    """The most epochs of the last stage with which the whole run scores at most `budget` candidates.

    Four steps of each stage are run in this process and thrown away, two of them late ones. A sampler whose steps score
    more after a long time, such as a curriculum's, is taken to do so from the first: it spends less, not more.

    Args:
        config: of a run, whose `trainer.epochs` is tried out; pre-training that is a share of it follows.
    Raises:
        InputError: one epoch is already too much.
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
        for split in ("valid", "test"):
            needs_split(run.graph, split, "a scorecard compares samplers by both")
        trainer = build_trainer(run, Path(folder))
        scored = ScoredCandidates(player.model for player in trainer.players.values())
        return {stage.name: _measure_stage(trainer, stage, scored) for stage in trainer.stages}


def _measure_stage(trainer: Trainer, stage: Stage, scored: ScoredCandidates) -> _StageCost:
    stage.player.start_stage()
    stage.sampler.start_stage()
    counts = []
    second = 1 % stage.order.steps_per_epoch
    late = _LATE_EPOCH * stage.order.steps_per_epoch
    # The last step of an epoch may be smaller, so a step's cost is that of its positives.
    for number in (0, second, late, late + second):
        scored.count = 0
        trainer.train_step(stage, number)
        counts.append(scored.count)
    positives = stage.order.num_chunks * stage.order.chunk_size
    in_first = len(stage.order.batch(0).head)
    in_second = len(stage.order.batch(second).head)
    an_epoch = round(max(counts[1], counts[3]) * positives / max(in_second, 1))
    return _StageCost(max(0, counts[0] - round(counts[1] * in_first / max(in_second, 1))), an_epoch)
