"""Means over the global batch, summed over ranks at once with what the ranks have to say to each other."""

from collections.abc import Mapping, Sequence

import torch

from discriminator.discriminator import Verdict
from generator.sampler import NegativeSampler, Reward
from graph.batch import Batch, Negatives
from graph.transfer import sent
from trainer.runtime import Runtime


def sums_and_means(
    runtime: Runtime,
    sampler: NegativeSampler,
    batch: Batch,
    negatives: Negatives,
    verdict: Verdict,
    votes: Sequence[float],
) -> tuple[list[float], dict[str, float]]:
    """Makes the one sum over ranks that each step needs. Collective.

    Args:
        batch: this rank's share of the global batch, with its negatives and its verdict.
        votes: numbers of this rank to be summed too.
    Returns:
        The sums of the votes; and the means over the global batch by name: the "loss", and of a sampler that learns the
        "reward" and its own statistics.
    """
    shares = {"loss": verdict.loss.detach()}
    if sampler.learns:  # nobody else needs it, and it takes a fiftieth of a step
        shares["reward"] = batch.share_of_mean(verdict.reward.mean(1))
        for name, statistic in sampler.statistics().items():
            shares[_of_sampler(name)] = batch.share_of_mean(
                statistic(verdict.reward, verdict.positive, verdict.negative)
            )
    if negatives.log_prob is not None:
        shares["generator's log-probability"] = batch.share_of_mean(negatives.log_prob.mean(1))
    said = sent(torch.tensor(votes, dtype=verdict.loss.dtype), verdict.loss.device)
    added = runtime.add(torch.cat([said, torch.stack(list(shares.values()))])).tolist()
    return added[: len(votes)], dict(zip(shares, added[len(votes) :], strict=True))


def reward_of(sampler: NegativeSampler, verdict: Verdict, mean: Mapping[str, float]) -> Reward | None:
    """The reward of a sampler that learns, with the means of `sums_and_means`; None if it does not learn."""
    if not sampler.learns:
        return None
    return Reward(verdict.reward, mean["reward"], {name: mean[_of_sampler(name)] for name in sampler.statistics()})


def _of_sampler(name: str) -> str:
    return f"sampler's {name}"
