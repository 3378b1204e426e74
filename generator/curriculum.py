"""Curriculum: the share of hard negatives changes while training. The other negatives are uniform."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from generator.mixture import MixtureSampler, errors_of, part_of
from generator.sampler import (
    Mean,
    NegativeSampler,
    Reward,
    SamplerContext,
    ScoreCandidates,
    Statistic,
    require_at_least,
)
from generator.uniform import UniformSampler
from graph.batch import Batch, Negatives
from graph.counter_random import random_uniform, stream
from graph.errors import InputError

_SEPARATED = "share of separated negatives"


class Shape(StrEnum):
    """How a value goes from the first to the last."""

    LINEAR = "linear"
    """In proportion to the progress."""
    COSINE = "cosine"
    """Slowly, then faster, then slowly again."""
    STEP = "step"
    """The first value until the progress is complete, then the last."""

    def way(self, progress: float) -> float:
        """The fraction of the change, from 0 (first value) to 1 (last value), at this progress (1: complete)."""
        progress = min(progress, 1.0)
        if self == Shape.LINEAR:
            return progress
        if self == Shape.COSINE:
            return (1 - math.cos(math.pi * progress)) / 2
        return float(progress == 1)


class Progress(StrEnum):
    """What the progress is measured by."""

    STEP = "step"
    """The number of steps of the stage."""
    MARGIN = "margin"
    """The share of negatives that the discriminator scores at least a margin below their positive."""


class CurriculumSampler(MixtureSampler):
    """Takes a share of the negatives from a hard sampler and draws the rest uniformly; the share follows a schedule.

    The sampler is this project's. To ask whether negatives should always be hard, compare share=[1,1], [0,1] and
    [0.5,0.5]; [1,0] is the reverse curriculum, and [0.2,0.2,1,0] holds the share, raises it and lowers it. The hard
    sampler's pool_size and temperature can follow the same schedule, if it has these options.

    `propose` returns entities [B, N], or [C, N] where the hard sampler's are shared too. All positives of a step have
    the same number of hard negatives. If the schedule asks for 2.3, a step has 2 or 3, and 2.3 on average. The hard
    sampler is not called in a step that has none. The cost is that of the hard sampler.

    With progress=margin the progress is average / `separated`. The average is a moving average, which starts at 0, of
    the share of negatives that score at least `margin` below their positive. It can go down: harder negatives are
    separated less often. So it settles where about a share `separated` of the negatives is. It is equal on all ranks.

    Args:
        hard: makes the sampler of hard negatives from its context; the sampler must have the option num_negatives.
        num_negatives: negatives for each positive, hard and uniform together.
        share: shares of hard negatives, each from 0 to 1: the first, the last, and any in between, at equal distances.
        pool_size: the hard sampler's first and last pool_size; null: it keeps its own.
        temperature: the hard sampler's first and last temperature; null: it keeps its own.
        shape: how values change in between: "linear", "cosine" or "step"; see `Shape`.
        progress: what the schedule follows: "step" or "margin"; see `Progress`.
        steps: for progress=step, the number of steps of the stage after which the last value is reached.
        margin: for progress=margin, how far below its positive a separated negative scores, in units of the score.
        separated: for progress=margin, the average at which the last value is reached; above 0, at most 1.
        decay: for progress=margin, the weight of the old average in each step, in [0, 1).
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
        if len(share) < 2:
            raise InputError(
                f"generator.share must be two numbers or more, from the first to the last, got {list(share)}"
            )
        for key, values in (("pool_size", pool_size), ("temperature", temperature)):
            if values is not None and len(values) != 2:
                raise InputError(f"generator.{key} must be two numbers, first and last value, got {list(values)}")
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
        self.average: Mean = 0.0
        self.hard = self._hard(hard, context)
        uniform = UniformSampler(context, num_negatives=num_negatives, mask_known=False, redraw_known=False)
        super().__init__(context, parts={"hard": lambda _: self.hard, "uniform": lambda _: uniform})

    def _hard(self, make: Callable[..., NegativeSampler], context: SamplerContext) -> NegativeSampler:
        """Makes the hard sampler; raises InputError if its first or last options are not allowed."""
        for name in ("num_negatives", *self.options):
            if name not in inspect.signature(make).parameters:
                raise InputError(f"generator.{name}: the sampler of generator.hard has no option {name}")
        fewest, most = math.floor(min(self.share) * self.num_negatives), math.ceil(max(self.share) * self.num_negatives)
        counts = [max(fewest, 1), max(most, 1)]
        if self.share[0] > self.share[-1]:
            counts.reverse()
        first, last = (
            {"num_negatives": count, **self._options(way)} for count, way in zip(counts, (0.0, 1.0), strict=True)
        )
        hard = part_of("generator.hard", partial(make, **first), context)
        with errors_of("generator.hard"):
            hard.adjust(**last)
        return hard

    def _share(self, way: float) -> float:
        """The share of hard negatives: between two shares of `share`, in proportion."""
        place = way * (len(self.share) - 1)
        number = min(int(place), len(self.share) - 2)
        before, after = self.share[number : number + 2]
        return before + (after - before) * (place - number)

    def _options(self, way: float) -> dict[str, int | float]:
        values = {name: first + (last - first) * way for name, (first, last) in self.options.items()}
        return {name: round(value) if name == "pool_size" else value for name, value in values.items()}

    @property
    def learns(self) -> bool:
        """True if the hard sampler learns, or with progress=margin, whose average comes with the rewards."""
        return self.progress == Progress.MARGIN or super().learns

    def key_of(self, name: str) -> str:
        """The config key of a part: "generator.hard" (the uniform part has no options)."""
        return f"generator.{name}"

    def undo(self) -> Callable[[], object] | None:
        """See `NegativeSampler.undo`; also takes the average back."""
        average, undo = self.average, super().undo()
        if undo is None:
            return None

        def back() -> None:
            self.average = average
            undo()

        return back

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Sets the number of hard negatives and the hard sampler's options, then draws as a mixture does."""
        self._weight = batch.weight
        done = batch.step / self.steps if self.progress == Progress.STEP else float(self.average) / self.separated
        way = self.shape.way(done)
        self.now = self._share(way)
        count = self._whole(batch, self.now * self.num_negatives)
        self._counts = {"hard": count, "uniform": self.num_negatives - count}
        for name in self.taking_part(batch):
            options = self._options(way) if name == "hard" else {}
            self.parts[name].adjust(num_negatives=self._counts[name], **options)
        return super().propose(batch, score)

    def _whole(self, batch: Batch, count: float) -> int:
        """`count`, rounded up or down at random so that the expected value is `count`; the same on every rank."""
        key = stream("whole number of hard negatives", batch.seed, batch.epoch, batch.step)
        return math.floor(count + float(random_uniform(key, torch.tensor(0))))

    def taking_part(self, batch: Batch) -> list[str]:
        """The parts that have at least one negative in this step."""
        return [name for name, count in self._counts.items() if count]

    def statistics(self) -> Mapping[str, Statistic]:
        """The share of separated negatives, with progress=margin, and the statistics of the hard sampler."""
        own = {_SEPARATED: self._separated} if self.progress == Progress.MARGIN else {}
        return {**own, **super().statistics()}

    def _separated(
        self, reward: Float[Tensor, "B N"], positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"]
    ) -> Float64[Tensor, " B"]:
        return (positive[:, None] - negative >= self.margin).double().mean(1)

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Updates the average, and passes the hard sampler its rewards."""
        if self.progress == Progress.MARGIN:
            self.average = self.decay * self.average + (1 - self.decay) * reward.means[_SEPARATED]
        super().feedback(batch, negatives, reward)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The share of hard negatives that the schedule asks for, and the metrics of the hard sampler."""
        return {"generator/hard_share": torch.full_like(self._weight, self.now), **super().metrics()}

    def state(self) -> dict[str, Tensor]:
        """See `NegativeSampler.state`."""
        return {"separated": torch.tensor([float(self.average)], dtype=torch.float64), **super().state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self.average = float(state["separated"])
        super().load_state(state)

    def start_stage(self) -> None:
        """Sets the progress back to 0."""
        self.average = 0.0
        super().start_stage()
