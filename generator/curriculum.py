"""Hardness that grows while training: uniform negatives give way to those of a sampler of hard ones."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from generator.mixture import MixtureSampler, errors_of, part_of
from generator.sampler import NegativeSampler, Reward, SamplerContext, ScoreCandidates, Statistic, require_at_least
from generator.uniform import UniformSampler
from graph.batch import Batch, Negatives
from graph.counter_random import random_uniform, stream
from graph.errors import InputError

_SEPARATED = "share of separated negatives"


class Shape(StrEnum):
    """The way from the first value to the last."""

    LINEAR = "linear"
    """In proportion to the progress."""
    COSINE = "cosine"
    """Slowly, then faster, then slowly again."""
    STEP = "step"
    """All at once, when the progress is complete."""

    def way(self, progress: float) -> float:
        """How much of the way is done, from 0 to 1."""
        progress = min(progress, 1.0)
        if self == Shape.LINEAR:
            return progress
        if self == Shape.COSINE:
            return (1 - math.cos(math.pi * progress)) / 2
        return float(progress == 1)


class Progress(StrEnum):
    """What hardness goes by."""

    STEP = "step"
    """Steps of the stage."""
    MARGIN = "margin"
    """How well the discriminator does: the share of negatives that it scores below their positive by a margin."""


class CurriculumSampler(MixtureSampler):
    """A share of each positive's negatives comes from a hard sampler, the rest is uniform; the share is a schedule's.

    "Should negatives always be hard?" is share [1, 1] against [0, 1] against [0.5, 0.5]; [1, 0] is the curriculum
    backwards. The pool size and the temperature of the hard sampler (of KBGAN, and of others that have them) can go
    along. A step that calls for 2.3 hard negatives has 2 or 3 of them, in the mean 2.3, and all positives have as many;
    the hard sampler rests where it has none.

    By `progress=margin` hardness is a moving average, 0 at first, of the share of all negatives that are separated
    from their positive. It can go back: harder negatives are separated less often, so that training stays about where
    a share `separated` of them is. Ranks agree on it.

    Args:
        hard: makes the sampler of hard negatives from its context; one that has num_negatives.
        num_negatives: of each positive, hard and uniform together.
        share: of hard negatives, at first and at last.
        pool_size: the hard sampler's, at first and at last; null: as its own options say.
        temperature: likewise.
        shape: the way between the two: "linear", "cosine" or "step".
        progress: "step" or "margin".
        steps: of the stage, until progress by steps is complete.
        margin: how far below its positive a negative is separated, in units of the score.
        separated: the average at which progress by margin is complete.
        decay: the share that a step keeps of the old average, in [0, 1).
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        hard: Callable[..., NegativeSampler],
        num_negatives: int,
        share: Sequence[float],
        pool_size: Sequence[int] | None,
        temperature: Sequence[float] | None,
        shape: str,
        progress: str,
        steps: int,
        margin: float,
        separated: float,
        decay: float,
    ) -> None:
        require_at_least("generator.num_negatives", num_negatives, 1)
        require_at_least("generator.steps", steps, 1)
        for key, choice, choices in (("shape", shape, Shape), ("progress", progress, Progress)):
            if choice not in list(choices):
                raise InputError(f"generator.{key} must be one of {', '.join(choices)}, got {choice!r}")
        for key, values in (("share", share), ("pool_size", pool_size), ("temperature", temperature)):
            if values is not None and len(values) != 2:
                raise InputError(f"generator.{key} must be two numbers, at first and at last, got {list(values)}")
        if not all(0 <= value <= 1 for value in share):
            raise InputError(f"generator.share must be from 0 to 1, got {list(share)}")
        if not 0 < separated <= 1:
            raise InputError(f"generator.separated must be above 0 and at most 1, got {separated}")
        if not 0 <= decay < 1:
            raise InputError(f"generator.decay must be in [0, 1), got {decay}")
        self.num_negatives = num_negatives
        self.share = tuple(share)
        options = {"pool_size": pool_size, "temperature": temperature}
        self.options = {name: tuple(values) for name, values in options.items() if values is not None}
        self.shape = Shape(shape)
        self.progress = Progress(progress)
        self.steps = steps
        self.margin = margin
        self.separated = separated
        self.decay = decay
        self.average = 0.0
        self.hard = self._hard(hard, context)
        uniform = UniformSampler(context, num_negatives=num_negatives, mask_known=False, redraw_known=False)
        super().__init__(context, parts={"hard": lambda _: self.hard, "uniform": lambda _: uniform})

    def _hard(self, make: Callable[..., NegativeSampler], context: SamplerContext) -> NegativeSampler:
        """The hard sampler, with options of which first and last values were checked."""
        for name in ("num_negatives", *self.options):
            if name not in inspect.signature(make).parameters:
                raise InputError(f"generator.{name}: the sampler of generator.hard has no {name} to change")
        fewest, most = math.floor(min(self.share) * self.num_negatives), math.ceil(max(self.share) * self.num_negatives)
        counts = [max(fewest, 1), max(most, 1)]
        if self.share[0] > self.share[1]:
            counts.reverse()
        first, last = (
            {"num_negatives": count, **self._options(way)} for count, way in zip(counts, (0.0, 1.0), strict=True)
        )
        hard = part_of("generator.hard", partial(make, **first), context)
        with errors_of("generator.hard"):
            hard.adjust(**last)
        return hard

    def _options(self, way: float) -> dict[str, int | float]:
        values = {name: first + (last - first) * way for name, (first, last) in self.options.items()}
        return {name: round(value) if name == "pool_size" else value for name, value in values.items()}

    @property
    def learns(self) -> bool:
        """Also where the hard sampler does not: the average comes with the rewards."""
        return self.progress == Progress.MARGIN or super().learns

    def key_of(self, name: str) -> str:
        """See `MixtureSampler.key_of`; the uniform part has no options."""
        return f"generator.{name}"

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`."""
        self._weight = batch.weight
        done = batch.step / self.steps if self.progress == Progress.STEP else self.average / self.separated
        way = self.shape.way(done)
        self.now = self.share[0] + (self.share[1] - self.share[0]) * way
        count = self._whole(batch, self.now * self.num_negatives)
        self._counts = {"hard": count, "uniform": self.num_negatives - count}
        for name in self.taking_part(batch):
            options = self._options(way) if name == "hard" else {}
            self.parts[name].adjust(num_negatives=self._counts[name], **options)
        return super().propose(batch, score)

    def _whole(self, batch: Batch, count: float) -> int:
        """A whole number whose mean over steps is `count`."""
        key = stream("whole number of hard negatives", batch.seed, batch.epoch, batch.step)
        return math.floor(count + float(random_uniform(key, torch.tensor(0))))

    def taking_part(self, batch: Batch) -> list[str]:
        """See `MixtureSampler.taking_part`."""
        return [name for name, count in self._counts.items() if count]

    def statistics(self) -> Mapping[str, Statistic]:
        """The share of separated negatives, if hardness goes by it, and what the hard sampler wants to know."""
        own = {_SEPARATED: self._separated} if self.progress == Progress.MARGIN else {}
        return {**own, **super().statistics()}

    def _separated(
        self, reward: Float[Tensor, "B N"], positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"]
    ) -> Float64[Tensor, " B"]:
        return (positive[:, None] - negative >= self.margin).double().mean(1)

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Keeps the average, and gives the hard sampler its rewards."""
        if self.progress == Progress.MARGIN:
            self.average = self.decay * self.average + (1 - self.decay) * reward.means[_SEPARATED]
        super().feedback(batch, negatives, reward)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The share of hard negatives that the schedule asks for, and what the hard sampler has to say."""
        return {"generator/hard_share": torch.full_like(self._weight, self.now), **super().metrics()}

    def state(self) -> dict[str, Tensor]:
        """See `NegativeSampler.state`."""
        return {"separated": torch.tensor([self.average], dtype=torch.float64), **super().state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""
        self.average = float(state["separated"])
        super().load_state(state)

    def start_stage(self) -> None:
        """Progress begins anew."""
        self.average = 0.0
        super().start_stage()
