"""One training step: the outline of what happens from a batch to moved rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from discriminator.discriminator import Verdict
from generator.sampler import Mean, Reward
from graph.batch import Batch, Negatives
from graph.errors import InputError
from trainer.global_means import GlobalMeans, reward_of
from trainer.repeatable import repeats_steps
from trainer.runtime import Runtime
from trainer.saving_times import SavingTimes
from trainer.stage import Cursor, Stage
from trainer.step_graph import StepGraph


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
        InputError: `cuda_graph` asks for what is not possible.
    """

    def __init__(
        self, runtime: Runtime, times: SavingTimes, stages: Sequence[Stage], *, cuda_graph: bool | None, observed: bool
    ) -> None:
        self.runtime = runtime
        self.times = times
        self.means = GlobalMeans(runtime)
        self._repeats = {stage.name: repeats_steps(cuda_graph, stage, runtime, observed=observed) for stage in stages}
        self._graph: StepGraph | None = None

    @property
    def needs_stream(self) -> bool:
        """Whether steps of any stage are repeated as a CUDA graph, for which the GPU's work needs its own stream."""
        return any(self._repeats.values())

    def begin(self, stage: Stage) -> None:
        """Before the first step of a stage, or of what is left of it."""
        if self._repeats[stage.name]:
            self._graph = StepGraph(stage, self.means, partial(self.run, stage, lr_factor=1.0))

    def end(self) -> None:
        """After the last step of a stage: lets go of the memory that repeated steps had."""
        self._graph = None

    def train(self, stage: Stage, number: int, cursor: Cursor) -> Step:
        """Trains one step. Collective. Raises InputError if a mean is not finite; see `expect_finite`."""
        return self.run(stage, stage.order.batch(number), lr_factor=_lr_factor(stage, number), cursor=cursor)

    def repeat(self, stage: Stage, number: int) -> bool:
        """Trains one step as part of a graph, in which a GPU repeats it without Python; False if that can't be."""
        if self._graph is None or not self._graph.takes(batch := stage.order.batch(number)):
            return False
        self._graph.step(batch, _lr_factor(stage, number))
        self.times.count(self.times.votes())
        return True

    def run(self, stage: Stage, whole: Batch, *, lr_factor: float, cursor: Cursor | None = None) -> Step:
        """Trains one step of this global batch. Collective.

        In order: the model's encoder, if it has one, makes the rows of the step; the sampler proposes negatives; the
        player scores them and computes the loss; the loss and the rewards are checked to be finite; the player's
        optimiser updates the model; the sampler gets the reward. With a GPU the host does not wait for the check: see
        `GlobalMeans`.

        Args:
            cursor: where the step is, for the error; None only on a GPU.
        """
        stage.player.begin_step(whole)
        batch = self.runtime.share(whole)
        negatives = stage.sampler.propose(batch, partial(stage.player.score_candidates, batch))
        verdict = stage.player.judge(batch, negatives)
        loss, reward = self._global_means(stage, batch, negatives, verdict)
        if self.means.waits:
            assert cursor is not None
            self.expect_finite(stage, cursor, done=0)
        stage.player.learn(verdict, lr_factor=lr_factor)
        if reward is not None:
            stage.sampler.feedback(batch, negatives, reward)
        return Step(batch, negatives, verdict, loss, None if reward is None else reward.mean)

    def _global_means(
        self, stage: Stage, batch: Batch, negatives: Negatives, verdict: Verdict
    ) -> tuple[Mean, Reward | None]:
        """The mean loss and the reward over the global batch. Collective."""
        optimizers = [stage.player.optimizer]
        if stage.sampler.learns and stage.sampler.optimizer is not None:
            optimizers.append(stage.sampler.optimizer)
        votes = self.times.votes()
        sums, mean = self.means.of_step(stage.sampler, batch, negatives, verdict, votes, optimizers)
        self.times.count(sums)
        return mean["loss"], reward_of(stage.sampler, verdict, mean)

    def expect_finite(self, stage: Stage, cursor: Cursor, *, done: int) -> None:
        """Raises InputError if a mean that was not read before is not finite; the cursor then goes before its step.

        Args:
            done: 1 if the cursor has counted the last step, 0 if it has not.
        """
        bad = self.means.read()
        if bad is None:
            return
        back = bad.steps_ago + done
        cursor.stage_step -= back
        cursor.step -= back
        raise InputError(
            f"the {bad.name} is {bad.value} at step {cursor.step + 1}, epoch {bad.epoch} of the {stage.name} "
            "stage; nothing was updated with it (a smaller optimizer.lr may help)"
        )


def _lr_factor(stage: Stage, number: int) -> float:
    return stage.schedule.factor(number / stage.order.steps_per_epoch, stage.epochs)
