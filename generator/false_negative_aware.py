"""KBGAN that learns to leave missing facts alone: some train facts are hidden from it, and drawing one costs reward.

After the question that the seminar leaves open: train the generator itself to avoid false negatives.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from generator.kbgan import KBGANSampler
from generator.sampler import Reward, SamplerContext, ScoreCandidates
from graph.batch import Batch, Negatives
from graph.counter_random import combine, random_uniform, stream
from graph.errors import InputError
from graph.known import KnownTriples


class FalseNegativeAwareSampler(KBGANSampler):
    """KBGAN in whose eyes a share of the train facts is missing, as some true facts are missing from train.

    A generator that masks all the facts it knows never meets a true candidate, and draws the unknown ones gladly: they
    are what the discriminator finds most plausible. Here hidden facts are candidates like others, and the penalty for
    drawing one is what teaches the generator how a missing fact looks. The pool of a positive that is hidden itself has
    its target among the candidates, for uniform ones hardly ever are facts; of a chunk's positives that share a pool,
    as many as the pool has places. The discriminator trains on hidden facts as positives, like on all others, and never
    as negatives: its loss leaves out the draws that are train facts.

    Args:
        hidden_share: the share of train facts that are hidden, a function of (seed, fact), in (0, 1).
        penalty: what drawing a train fact that is not masked costs, in units of the reward (of its spread, with
            `normalise_reward`).
        mask_known: never draw the facts that are not hidden; otherwise they cost the penalty too.
        options: see `KBGANSampler`.
    """

    def __init__(self, context: SamplerContext, *, hidden_share: float, penalty: float, **options: Any) -> None:
        if not 0 < hidden_share < 1:
            raise InputError(f"generator.hidden_share must be above 0 and below 1, got {hidden_share}")
        if penalty < 0:
            raise InputError(f"generator.penalty must be at least 0, got {penalty}")
        super().__init__(context, **options)
        self.penalty = penalty
        head, relation, tail = context.train.unbind(1)
        key = stream("facts hidden from the sampler", context.site.seed)
        hidden = random_uniform(key, combine(combine(head, relation), tail)) < hidden_share
        self.hidden = self._index(context.train[hidden])
        self.masked = self._index(context.train[~hidden])

    def _index(self, facts: Int64[Tensor, "T 3"]) -> KnownTriples:
        context = self.context
        return KnownTriples(facts.to(context.site.device), context.num_entities, context.num_relations)

    def candidates(self, batch: Batch) -> Int64[Tensor, "C M"]:
        """Uniform ones, and the targets of positives that are hidden facts."""
        pool = super().candidates(batch)
        places = min(batch.chunk_size, self.pool_size)
        target = batch.target.view(len(pool), batch.chunk_size)[:, :places]
        hidden = self.hidden.contains(batch, batch.target[:, None]).view(len(pool), batch.chunk_size)[:, :places]
        return torch.cat([torch.where(hidden, target, pool[:, :places]), pool[:, places:]], dim=1)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """As KBGAN; train facts among the draws are known to the loss, also those that the generator can't know."""
        negatives = super().propose(batch, score)
        self._hidden_draws = self.hidden.contains(batch, negatives.entity)
        return replace(negatives, known=self.context.known.contains(batch, negatives.entity))

    def earned(self, batch: Batch, negatives: Negatives, reward: Reward) -> Reward:
        """As KBGAN, less the penalty; mean and spread stay those without it."""
        reward = super().earned(batch, negatives, reward)
        entity = negatives.pool if negatives.reward_pool else negatives.entity
        assert entity is not None
        return replace(reward, value=reward.value - self.penalty * self._penalised(batch, entity))

    def _penalised(self, batch: Batch, entity: Int64[Tensor, "C K"]) -> Bool[Tensor, "B K"]:
        return (self.hidden if self.mask_known else self.context.known).contains(batch, entity)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """KBGAN's, and the rate of hidden train facts among the draws."""
        return {**super().metrics(), "generator/hidden_train": self._hidden_draws.double().mean(1)}
