"""One training step: the outline of what happens from a batch to moved rows."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from discriminator.discriminator import Verdict
from generator.sampler import Mean, Reward
from graph.batch import Batch, Negatives
from graph.errors import InputError
from trainer.fixed_exchange import FixedExchange
from trainer.global_means import MISSED, GlobalMeans, reward_of
from trainer.repeatable import repeats_steps
from trainer.runtime import Runtime
from trainer.saving_times import SavingTimes
from trainer.stage import Cursor, Stage
from trainer.step_graph import StepGraph

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """The data and the results of a finished step."""

    batch: Batch
    negatives: Negatives
    verdict: Verdict
    loss: Mean
    """Mean over the global batch."""
    reward: Mean | None
    """Mean over the global batch; None if the sampler does not learn."""


class TrainingStep:
    """Trains single steps, one kernel after the other or, on a GPU, as one CUDA graph.

    Example: `step = TrainingStep(...)`; `step.begin(stage)` before the first step of a stage, then
    `step.train(stage, number, cursor)` or `step.repeat(stage, number)` for each, and `step.end()` after the last.

    Args:
        cuda_graph: `trainer.cuda_graph`, see `repeats_steps`.
        observed: whether observers count what each step does.

    Raises:
        InputError: `cuda_graph` or `placement.exchange` asks for what is not possible.
    """

    def __init__(
        self, runtime: Runtime, times: SavingTimes, stages: Sequence[Stage], *, cuda_graph: bool | None, observed: bool
    ) -> None:
        self.runtime = runtime
        self.times = times
        self.means = GlobalMeans(runtime)
        self._repeats_steps = partial(repeats_steps, cuda_graph, runtime=runtime, observed=observed)
        self._repeats = {stage.name: self._repeats_steps(stage) for stage in stages}
        self._graph: StepGraph | None = None
        self._exchange = {stage.name: FixedExchange.of(stage, runtime, observed=observed) for stage in stages}
        self.made_again = 0
        """How often this run, since it was started or resumed, went back because rows of a step did not fit."""

    @property
    def needs_stream(self) -> bool:
        """Whether steps of any stage are repeated as a CUDA graph, for which the GPU's work needs its own stream."""
        return any(self._repeats.values())

    def begin(self, stage: Stage) -> None:
        """Before the first step of a stage, or of what is left of it.

        Raises:
            InputError: `cuda_graph` asks for what is not possible since another run's rows were frozen.
        """
        if self._repeats[stage.name] and self._repeats_steps(stage):
            self._graph = StepGraph(stage, self.means, partial(self.run, stage, lr_factor=1.0))

    def end(self) -> None:
        """After the last step of a stage: lets go of the memory that repeated steps had."""
        self._graph = None

    def has_fixed_exchange(self, stage: Stage) -> bool:
        """Whether steps of this stage exchange rows in pieces of a fixed size, in which they may not fit."""
        return self._exchange[stage.name] is not None

    def train(self, stage: Stage, number: int, cursor: Cursor) -> Step | None:
        """Trains one step. Collective. Raises InputError if a mean is not finite; see `must_go_back`.

        None: it has to be made again, because rows did not fit, or an earlier one has, before one in which the sampler
        refreshes. With a GPU, of other steps only `must_go_back` says that.
        """
        whole = stage.order.batch(number)
        must_be_good = self.has_fixed_exchange(stage) and stage.sampler.refreshes(whole)
        if must_be_good and self.must_go_back(stage, cursor, done=1):
            return None
        return self.run(stage, whole, lr_factor=_lr_factor(stage, number), cursor=cursor)

    def repeat(self, stage: Stage, number: int) -> bool:
        """Trains one step as part of a graph, in which a GPU repeats it without Python; False if that can't be."""
        if self._graph is None or not self._graph.takes(batch := stage.order.batch(number)):
            return False
        self._graph.step(batch, _lr_factor(stage, number))
        self.times.count(self.times.votes())
        return True

    def run(self, stage: Stage, whole: Batch, *, lr_factor: float, cursor: Cursor | None = None) -> Step | None:
        """Trains one step of this global batch, or gives None; see `train`. Collective.

        In order: the model's encoder, if it has one, makes the rows of the step; the sampler proposes negatives; the
        player scores them and computes the loss; the loss and the rewards are checked to be finite; the player's
        optimiser updates the model; the sampler gets the reward. With a GPU the host does not wait for the check: see
        `GlobalMeans`.

        Args:
            cursor: where the step is, for the error; None only on a GPU.
        """
        exchange = self._exchange[stage.name]
        with nullcontext() if exchange is None else exchange.step_of(whole):
            return self._run(stage, whole, lr_factor, cursor)

    def _run(self, stage: Stage, whole: Batch, lr_factor: float, cursor: Cursor | None) -> Step | None:
        exchange = self._exchange[stage.name]
        stage.player.begin_step(whole)
        batch = self.runtime.share(whole)
        negatives = stage.sampler.propose(batch, partial(stage.player.score_candidates, batch))
        verdict = stage.player.judge(batch, negatives)
        loss, reward = self._global_means(stage, batch, negatives, verdict)
        if self.means.waits:
            assert cursor is not None
            if self.must_go_back(stage, cursor, done=0):
                return None
        stage.player.learn(verdict, lr_factor=lr_factor)
        if reward is not None:
            stage.sampler.feedback(batch, negatives, reward)
        if exchange is not None:
            exchange.settle(self.means.good)
        return Step(batch, negatives, verdict, loss, None if reward is None else reward.mean)

    def _global_means(
        self, stage: Stage, batch: Batch, negatives: Negatives, verdict: Verdict
    ) -> tuple[Mean, Reward | None]:
        """The mean loss and the reward over the global batch. Collective."""
        optimizers = [stage.player.optimizer]
        if stage.sampler.learns and stage.sampler.optimizer is not None:
            optimizers.append(stage.sampler.optimizer)
        votes = self.times.votes()
        exchange = self._exchange[stage.name]
        missed = None if exchange is None else exchange.take_missed()
        sums, mean = self.means.of_step(stage.sampler, batch, negatives, verdict, votes, optimizers, missed)
        self.times.count(sums)
        return mean["loss"], reward_of(stage.sampler, verdict, mean)

    def must_go_back(self, stage: Stage, cursor: Cursor, *, done: int) -> bool:
        """Reads the means that were not read before, which waits for a GPU. Collective.

        Args:
            done: 1 if the cursor has counted the last step, 0 if it has not.
        Returns:
            True if rows of a step did not fit. The cursor is then before that step; everything is as it was there, and
            the next look-ups have more room.
        Raises:
            InputError: a mean is not finite; the cursor then is before its step.
        """
        bad = self.means.read()
        if bad is None:
            return False
        back = bad.steps_ago + done
        cursor.stage_step -= back
        cursor.step -= back
        if bad.name == MISSED:
            self._widen(stage, cursor)
            return True
        raise InputError(
            f"the {bad.name} is {bad.value} at step {cursor.step + 1}, epoch {bad.epoch} of the {stage.name} "
            "stage; nothing was updated with it (a smaller optimizer.lr may help)"
        )

    def _widen(self, stage: Stage, cursor: Cursor) -> None:
        exchange = self._exchange[stage.name]
        assert exchange is not None
        exchange.widen()
        self.made_again += 1
        if self.runtime.is_first:
            log.warning(
                "step %d: more rows of one rank were wanted than there was room for, so it is made again with twice "
                "the room; nothing is lost but time (placement.exchange=counted has no such limit)",
                cursor.step + 1,
            )


def _lr_factor(stage: Stage, number: int) -> float:
    return stage.schedule.factor(number / stage.order.steps_per_epoch, stage.epochs)
