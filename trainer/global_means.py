"""Means over the global batch, summed over ranks at once with what the ranks have to say to each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from discriminator.discriminator import Verdict
from embedding.model_optimizer import ModelOptimizer
from generator.sampler import Mean, NegativeSampler, Reward
from graph.batch import Batch, Negatives
from graph.transfer import sent
from kernels.means import mean_of_rows
from trainer.runtime import Runtime

_MOST = 1000
"""Steps whose means stay unread on a GPU at most."""
_VOTES_EVERY = 16
"""Steps between votes of several ranks on GPUs. Their hosts wait for each other then, though for no GPU."""
_REWARD = "reward"
MISSED = "rows that did not fit"
"""The name of a mean that is infinite if a rank's rows did not fit: see `FixedPieces`. Else it is 0."""


@dataclass(frozen=True)
class NotFinite:
    """The first mean over a global batch that is nan or infinite."""

    name: str
    value: float
    epoch: int
    steps_ago: int
    """0 for the last step."""


@dataclass(frozen=True)
class StepMeans:
    """The means of a step that the host has not read, or has read but not checked."""

    epoch: int
    names: tuple[str, ...]
    values: Float64[Tensor, " M"] | list[float]
    counts: list[tuple[ModelOptimizer, int]]
    """The optimisers that it moves, and how many steps they had made before."""
    undo: Callable[[], object] | None = None
    """Takes back what it and later steps have changed of the sampler; None: nobody has to."""


class GlobalMeans:
    """The means of each step: the "loss", and of a sampler that learns the "reward" and its own statistics.

    On the CPU the host reads them before anything is updated, and the run ends if one is not finite. With a GPU the
    host would wait for that in each step. So there they stay on the GPU until `read`, and the GPU itself leaves
    everything as it is: `ModelOptimizer.good` is False from the first step on that has a mean that is not finite. All
    ranks have the same sums, so it is False on all. However late the hosts learn of it, parameters and states of
    optimisers are those before that step.

    A step whose rows did not fit in the pieces that ranks exchange is found in the same way, and nothing moves with it
    or after it. It is no error: its sampler is put back too, and the caller makes it again.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.waits = runtime.device.type == "cpu"
        """Whether the host reads the means in each step."""
        self.last: dict[str, float] = {}
        """The means that were read last, by name."""
        self._unread: list[StepMeans] = []
        self._steps = 0
        self.good: Bool[Tensor, ""] | None = None
        """On a GPU, whether all means so far are finite; None on the CPU, where the run would have ended."""
        self._trouble = torch.zeros((), dtype=torch.float64, device=runtime.device)
        """The largest absolute mean so far: infinite or nan from the first on that is not finite."""

    @property
    def must_be_read(self) -> bool:
        """Whether so many steps are unread that the host should read them now."""
        return len(self._unread) >= _MOST

    def of_step(
        self,
        sampler: NegativeSampler,
        batch: Batch,
        negatives: Negatives,
        verdict: Verdict,
        votes: Sequence[float],
        optimizers: Sequence[ModelOptimizer],
        missed: Bool[Tensor, ""] | None,
    ) -> tuple[list[float] | None, Mapping[str, Mean]]:
        """Makes the one sum over ranks that each step needs. Collective.

        Args:
            batch: this rank's share of the global batch, with its negatives and its verdict.
            votes: numbers of this rank to be summed too. On one rank they are their sums, and never leave the host. On
                several ranks with GPUs the hosts sum them in some of the steps.
            optimizers: those that the step moves.
            missed: whether rows of this rank did not fit; None, on all ranks, if rows are exchanged with counts.
        Returns:
            The sums of the votes, or None if they are not summed in this step; and the means over the global batch by
            name. `read` says whether they are finite.
        """
        shares = _shares(sampler, batch, negatives, verdict)
        undo = None
        if missed is not None:
            shares[MISSED] = torch.where(missed, torch.inf, torch.zeros_like(verdict.loss.detach()))
            undo = sampler.undo()
        counts = [(each, int(each.steps)) for each in optimizers]
        if self.waits:
            said = sent(torch.tensor(votes, dtype=verdict.loss.dtype), verdict.loss.device)
            added = self.runtime.add(torch.cat([said, torch.stack(list(shares.values()))])).tolist()
            means = added[len(votes) :]
            self._unread.append(StepMeans(batch.epoch, tuple(shares), means, counts, undo))
            return added[: len(votes)], dict(zip(shares, means, strict=True))
        numbers = list(shares.values())
        if self.runtime.world_size > 1:
            numbers = self.runtime.add(torch.stack(numbers)).unbind()
        values = torch.stack([*numbers, self._trouble])
        # In one kernel, and where it was, for steps that a GPU repeats. Of nan it is nan.
        torch.linalg.vector_norm(values, torch.inf, out=self._trouble)
        self.good = self._trouble < torch.inf
        for optimizer in optimizers:
            optimizer.good = self.good
        self._unread.append(StepMeans(batch.epoch, tuple(shares), values[:-1], counts, undo))
        return self._summed_by_hosts(votes), dict(zip(shares, values.unbind(), strict=False))

    def _summed_by_hosts(self, votes: Sequence[float]) -> list[float] | None:
        if self.runtime.world_size == 1:
            return list(votes)
        self._steps += 1
        return self.runtime.add_on_hosts(votes) if self._steps % _VOTES_EVERY == 0 else None

    def read(self) -> NotFinite | None:
        """Reads the means that the host has not read yet, which waits for the GPU. `last` is then of the last step.

        Returns:
            The first mean that is not finite, if there is one; `MISSED` before others of its step, which are then
            wrong. The optimisers' counts of steps, and a sampler that can be put back, are then those before.
        """
        unread, self._unread = self._unread, []
        tensors = [each.values for each in unread if isinstance(each.values, Tensor)]
        numbers = iter(torch.cat(tensors).tolist() if tensors else [])
        for place, step in enumerate(unread):
            values = list(islice(numbers, len(step.names))) if isinstance(step.values, Tensor) else step.values
            means = dict(zip(step.names, values, strict=True))
            bad = [name for name, value in means.items() if not abs(value) < float("inf")]
            if bad:
                self._undo(step)
                name = MISSED if MISSED in bad else bad[0]
                return NotFinite(name, means[name], step.epoch, len(unread) - 1 - place)
            self.last = means
        return None

    def take_back(self) -> StepMeans:
        """Forgets the means of the last step, which a CUDA graph has recorded and not made; `repeated` takes them."""
        return self._unread.pop()

    def repeated(self, recorded: StepMeans, epoch: int) -> None:
        """Keeps the means that a CUDA graph has made where it recorded them; the next time, it makes others there."""
        assert isinstance(recorded.values, Tensor)
        counts = [(each, int(each.steps)) for each, _ in recorded.counts]
        self._unread.append(StepMeans(epoch, recorded.names, recorded.values.clone(), counts))

    def _undo(self, step: StepMeans) -> None:
        self._trouble.zero_()
        for optimizer, steps in step.counts:
            optimizer.good = None
            optimizer.steps.fill_(steps)
        if step.undo is not None:
            step.undo()


def _shares(
    sampler: NegativeSampler, batch: Batch, negatives: Negatives, verdict: Verdict
) -> dict[str, Float64[Tensor, ""]]:
    """This rank's share of each mean."""
    shares = {"loss": verdict.loss.detach()}
    if sampler.learns:  # nobody else needs it, and it takes a fiftieth of a step
        shares[_REWARD] = batch.share_of_mean(mean_of_rows(verdict.reward))
        for name, statistic in sampler.statistics().items():
            shares[_of_sampler(name)] = batch.share_of_mean(
                statistic(verdict.reward, verdict.positive, verdict.negative)
            )
    if negatives.log_prob is not None:
        shares["generator's log-probability"] = batch.share_of_mean(mean_of_rows(negatives.log_prob))
    return shares


def reward_of(sampler: NegativeSampler, verdict: Verdict, mean: Mapping[str, Mean]) -> Reward | None:
    """The reward of a sampler that learns, with the means of `GlobalMeans`; None if it does not learn."""
    if not sampler.learns:
        return None
    return Reward(verdict.reward, mean[_REWARD], {name: mean[_of_sampler(name)] for name in sampler.statistics()})


def _of_sampler(name: str) -> str:
    return f"sampler's {name}"
