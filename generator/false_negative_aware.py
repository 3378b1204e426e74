"""KBGAN that learns to avoid false negatives: some train facts are hidden from it, and drawing one costs reward."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from generator.kbgan import KBGANSampler
from generator.sampler import Reward, SamplerContext, ScoreCandidates
from graph.batch import Batch, Negatives
from graph.counter_random import combine, random_uniform, stream
from graph.errors import InputError
from graph.known import KnownTriples

_BLOCK = 1 << 20
"""Facts that are chosen at a time."""


class FalseNegativeAwareSampler(KBGANSampler):
    """Draws like KBGAN (Cai and Wang 2018), but some train facts are not masked, and drawing one of these costs reward.

    The penalty is this project's addition. A generator that masks all train facts never draws a true triple in
    training, so it can't learn to avoid missing facts, which the discriminator finds plausible. Here a share of the
    train facts is hidden: treated as if it were missing from train. The penalty teaches the generator to avoid these.

    Uniform candidates are hardly ever facts. So the targets of positives that are hidden facts are put into the pool of
    their chunk, as many as there are places. The discriminator still trains on hidden facts as positives. Its loss
    leaves out all negatives that are train facts.

    `propose` returns entities [B, N]. Beside KBGAN's costs, each rank keeps two more indices of train facts.

    Args:
        hidden_share: the share of train facts that are hidden, above 0 and below 1; a function of (seed, fact).
        penalty: subtracted from the reward of a negative that is a train fact and not masked; at least 0. In units of
            the reward, or of its standard deviation with `normalise_reward`.
        mask_known: never draw train facts that are not hidden; if false, these are drawn and cost the penalty too.
        options: see `KBGANSampler`.
    """

    def __init__(self, context: SamplerContext, *, hidden_share: float, penalty: float, **options: Any) -> None:
        if not 0 < hidden_share < 1:
            raise InputError(f"generator.hidden_share must be above 0 and below 1, got {hidden_share}")
        if penalty < 0:
            raise InputError(f"generator.penalty must be at least 0, got {penalty}")
        super().__init__(context, **options)
        self.penalty = penalty
        key = stream("facts hidden from the sampler", context.site.seed)
        hidden = torch.empty(len(context.train), dtype=torch.bool, device=context.train.device)
        for triples, is_hidden in zip(context.train.split(_BLOCK), hidden.split(_BLOCK), strict=True):
            head, relation, tail = triples.long().unbind(1)
            is_hidden[:] = random_uniform(key, combine(combine(head, relation), tail)) < hidden_share
        self.hidden = self._index(context.train[hidden])
        self.masked = self._index(context.train[~hidden])

    def _index(self, facts: Int32[Tensor, "T 3"]) -> KnownTriples:
        context = self.context
        return KnownTriples.of(facts.to(context.site.device), context.num_entities, context.num_relations)

    @property
    def repeats(self) -> bool:
        """False: hidden facts are looked up for each side by itself."""
        return False

    def candidates(self, batch: Batch) -> Int64[Tensor, "C M"]:
        """Uniform candidates, some of which are replaced by the targets of positives that are hidden facts."""
        pool = super().candidates(batch)
        places = min(batch.chunk_size, self.pool_size)
        target = batch.target.view(len(pool), batch.chunk_size)[:, :places]
        hidden = self.hidden.contains(batch, batch.target[:, None]).view(len(pool), batch.chunk_size)[:, :places]
        return torch.cat([torch.where(hidden, target, pool[:, :places]), pool[:, places:]], dim=1)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Draws like KBGAN, and marks all train facts among the draws as known, the hidden ones too."""
        negatives = super().propose(batch, score)
        self._hidden_draws = self.hidden.contains(batch, negatives.entity)
        return replace(negatives, known=self.context.known.contains(batch, negatives.entity))

    def earned(self, batch: Batch, negatives: Negatives, reward: Reward) -> Reward:
        """KBGAN's reward minus the penalty. Mean and standard deviation are those of the reward without penalty."""
        reward = super().earned(batch, negatives, reward)
        entity = negatives.pool if negatives.reward_pool else negatives.entity
        assert entity is not None
        return replace(reward, value=reward.value - self.penalty * self._penalised(batch, entity))

    def _penalised(self, batch: Batch, entity: Int64[Tensor, "C K"]) -> Bool[Tensor, "B K"]:
        return (self.hidden if self.mask_known else self.context.known).contains(batch, entity)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """KBGAN's metrics, and the share of draws that are hidden train facts."""
        return {**super().metrics(), "generator/hidden_train": self._hidden_draws.double().mean(1)}
