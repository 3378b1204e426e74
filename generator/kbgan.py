"""KBGAN (Cai and Wang, KBGAN: Adversarial learning for knowledge graph embeddings, NAACL 2018, arXiv 1711.04071).

The generator is a small KGE model. It scores a pool of uniform candidates and draws negatives from the softmax of the
scores. It learns from the discriminator's reward for these draws by REINFORCE (Williams 1992).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from generator.baseline import Baseline, LeaveOneOut
from generator.distinct_draws import draw_distinct, policy_coefficients
from generator.sampler import (
    NegativeSampler,
    Reward,
    SamplerContext,
    ScoreCandidates,
    Statistic,
    require_at_least,
    unchanged,
)
from graph.batch import Batch, Negatives
from graph.errors import InputError
from kernels.draws import draw_from, exact_policy_gradient, picked, sampled_policy_gradient
from kernels.means import divided

_SQUARE = "square of the reward"


class Side(StrEnum):
    """How the corrupted side is chosen: with equal probability, or as in `BernoulliSampler`."""

    UNIFORM = "uniform"
    BERNOULLI = "bernoulli"


class Estimator(StrEnum):
    """How the gradient of the expected reward is estimated."""

    REINFORCE = "reinforce"
    """From the rewards of the draws, minus a baseline."""
    EXACT = "exact"
    """From the reward of every candidate of the pool. No variance, but the discriminator must score the whole pool."""


@dataclass(frozen=True)
class _Draw:
    logits: Float[Tensor, "B M"]
    """The scores of the pool, divided by the temperature; -inf where masked. Backward from here reaches the model."""
    log_prob: Float[Tensor, "B M"]
    pick: Int64[Tensor, "B N"]
    entity: Int64[Tensor, "B N"]
    """The candidates that were drawn, and their log-probabilities."""
    drawn: Float[Tensor, "B N"]


class KBGANSampler(NegativeSampler):
    """Draws from the softmax of a generator model's scores of a uniform pool; the model learns from the reward.

    The method is that of Cai and Wang (2018). `propose` returns entities [B, N]: each positive has its own draws from
    the pool [C, M] of its chunk. A step costs M scores of the generator's model for each positive and their backward;
    with estimator=exact also M scores of the discriminator in place of N.

    Args:
        model: makes the generator's model from its site.
        optimizer: makes the optimiser of that model.
        dim: numbers in an entity vector of the model.
        num_negatives: N, draws for each positive.
        pool_size: M, uniform candidates of a chunk, with replacement. With chunk_size=1 each positive has its own pool.
        temperature: divides the model's scores before the softmax; above 0.
        side: how the corrupted side is chosen, "uniform" or "bernoulli".
        estimator: how the gradient is estimated, "reinforce" or "exact"; see `Estimator`.
        baseline: what REINFORCE subtracts from the reward. Used only with estimator=reinforce and replacement=true;
            without replacement a positive's other draws are the baseline.
        replacement: true: independent draws. false: distinct places of the pool; REINFORCE then uses
            `policy_coefficients`, so that the gradient stays unbiased, and needs num_negatives >= 2.
        entropy_weight: the weight, beside the reward, of the entropy of the softmax in nats; 0: no entropy term.
        entropy_floor: no entropy term where the entropy, in nats, is at least this; null: always.
        normalise_reward: standardise rewards to mean 0 and standard deviation 1 over the global batch. REINFORCE's
            gradient then has a small bias, of the order of 1 / (batch size).
        mask_known: never draw a candidate that makes a train fact. If a pool has too few others, train facts are drawn
            too, and the loss leaves them out.
    """

    model: KGEModel
    optimizer: ModelOptimizer
    bounded_by_entities: ClassVar[Mapping[str, int]] = {"pool_size": 0}
    draws_resident = True

    def __init__(
        self,
        context: SamplerContext,
        *,
        model: Callable[..., KGEModel],
        optimizer: Callable[[KGEModel], ModelOptimizer],
        dim: int,
        num_negatives: int,
        pool_size: int,
        temperature: float,
        side: str,
        estimator: str,
        baseline: Baseline,
        replacement: bool,
        entropy_weight: float,
        entropy_floor: float | None,
        normalise_reward: bool,
        mask_known: bool,
    ) -> None:
        super().__init__(context)
        for key, choice, choices in (("side", side, Side), ("estimator", estimator, Estimator)):
            if choice not in list(choices):
                raise InputError(f"generator.{key} must be one of {', '.join(choices)}, got {choice!r}")
        if entropy_weight < 0:
            raise InputError(f"generator.entropy_weight must be at least 0, got {entropy_weight}")
        self.num_negatives = num_negatives
        self.pool_size = pool_size
        self.temperature = temperature
        self.side = Side(side)
        self.estimator = Estimator(estimator)
        self.baseline = baseline
        self.replacement = replacement
        self.entropy_weight = entropy_weight
        self.entropy_floor = math.inf if entropy_floor is None else entropy_floor
        self.normalise_reward = normalise_reward
        self.mask_known = mask_known
        self.check_options()
        self.masked = context.known
        """The facts that are never drawn if `mask_known` is true."""
        self.model = model(context.site, name="generator", dim=dim)  # pyright: ignore[reportIncompatibleVariableOverride]
        self._make_optimizer = optimizer
        self.start_stage()

    def check_options(self) -> None:
        """Checks num_negatives, pool_size and temperature against each other, the estimator and the graph."""
        count, pool_size, entities = self.num_negatives, self.pool_size, self.context.num_entities
        require_at_least("generator.num_negatives", count, 1)
        require_at_least("generator.pool_size", pool_size, 1)
        if pool_size > entities:
            raise InputError(f"generator.pool_size must not exceed the graph's {entities} entities, got {pool_size}")
        if self.temperature <= 0:
            raise InputError(f"generator.temperature must be positive, got {self.temperature}")
        if self.estimator == Estimator.REINFORCE and count < 2:
            if not self.replacement:
                raise InputError(f"generator.num_negatives must be at least 2 without replacement, got {count}")
            if isinstance(self.baseline, LeaveOneOut):
                raise InputError(
                    f"generator.num_negatives must be at least 2 with the leave-one-out baseline, got {count}"
                )
        if not self.replacement and count > pool_size:
            raise InputError(
                f"generator.num_negatives must not exceed pool_size {pool_size} without replacement, got {count}"
            )
        highest = math.log(pool_size)
        if self.entropy_floor != math.inf and not 0 < self.entropy_floor <= highest:
            raise InputError(
                f"generator.entropy_floor must be above 0 and at most the logarithm of pool_size {pool_size}, "
                f"{highest:.3f}, got {self.entropy_floor}"
            )

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """1/2 for side=uniform; tph / (tph + hpt) of each relation for side=bernoulli."""
        return super().head_probability if self.side == Side.UNIFORM else self.context.statistics.head_probability

    @property
    def rewards_pool(self) -> bool:
        """True for the exact estimator."""
        return self.estimator == Estimator.EXACT

    @property
    def repeats(self) -> bool:
        """True if known facts are not looked up and the baseline can be repeated."""
        return not self.mask_known and (self.baseline.repeats or not self._uses_baseline)

    @property
    def _uses_baseline(self) -> bool:
        return self.estimator == Estimator.REINFORCE and self.replacement

    def undo(self) -> Callable[[], object] | None:
        """See `NegativeSampler.undo`: the baseline is all that a step changes."""
        return self.baseline.undo() if self._uses_baseline else unchanged

    def count_repeated(self) -> None:
        """See `NegativeSampler.count_repeated`."""
        self.baseline.count_repeated()

    def start_stage(self) -> None:
        """Makes a new optimiser and resets the baseline; the model keeps what pre-training gave it."""
        self.optimizer = self._make_optimizer(self.model)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.baseline.start(self.context)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Scores a pool with the generator's model and draws from its softmax; does not call `score`. Collective."""
        if self._uses_baseline:
            self.baseline.prepare(batch)
        pool = self.candidates(batch)
        logits = self.model.score_candidates(batch, pool)
        if self.temperature != 1:
            logits = logits / self.temperature
        known = self.masked.contains(batch, pool) if self.mask_known else None
        if known is not None:
            # Rows with too few other candidates are not masked; the loss then leaves known draws out (Negatives.known).
            others = 1 if self.replacement else self.num_negatives
            logits = logits.masked_fill(known & ((~known).sum(1, keepdim=True) >= others), -torch.inf)
        self._drawn = self._draw(batch, pool, logits)
        pick = self._drawn.pick
        return Negatives(
            entity=self._drawn.entity,
            known=None if known is None else known.gather(1, pick),
            log_prob=self._drawn.drawn,
            pool=pool,
            pick=pick,
            reward_pool=self.estimator == Estimator.EXACT,
        )

    def candidates(self, batch: Batch) -> Int64[Tensor, "C M"]:
        """The pool of each chunk."""
        return batch.entities("candidates", self.pool_size, self.context.num_entities)

    def _draw(self, batch: Batch, pool: Int64[Tensor, "C M"], logits: Float[Tensor, "B M"]) -> _Draw:
        if self.replacement:
            uniform = batch.uniform_per_positive("draws from the pool", self.num_negatives)
            return _Draw(logits, *draw_from(pool, logits.detach(), uniform))
        log_prob = logits.detach().log_softmax(1)
        uniform = batch.uniform_per_positive("draws from the pool", self.pool_size)
        pick = draw_distinct(log_prob, uniform, self.num_negatives)
        return _Draw(logits, log_prob, pick, picked(pool, pick), log_prob.gather(1, pick))

    def statistics(self) -> Mapping[str, Statistic]:
        """The mean square of the reward, which gives its standard deviation; only with `normalise_reward`."""
        return {_SQUARE: _mean_square} if self.normalise_reward else {}

    def earned(self, batch: Batch, negatives: Negatives, reward: Reward) -> Reward:
        """The reward that the generator learns from: standardised if `normalise_reward` is true."""
        return normalised(reward) if self.normalise_reward else reward

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Steps the generator's model along the estimated gradient of the expected reward (and entropy). Collective."""
        drawn = self._drawn
        # Below 0, so that all gradients are of what is minimised: minus the expected reward.
        weight = divided(batch.weight, -batch.global_weight, drawn.log_prob.dtype)
        reward = self.earned(batch, negatives, reward)
        if self.estimator == Estimator.EXACT:
            gradient = exact_policy_gradient(drawn.log_prob, reward.value, weight)
        elif self.replacement:
            advantage = self.baseline.advantage(reward, batch)
            of_draw = weight if self.num_negatives == 1 else weight / self.num_negatives
            gradient = sampled_policy_gradient(drawn.log_prob, drawn.pick, advantage, of_draw)
        else:
            coefficient = policy_coefficients(drawn.drawn, reward.value).to(weight.dtype)
            gradient = sampled_policy_gradient(drawn.log_prob, drawn.pick, coefficient, weight)
        if self.entropy_weight:
            gradient += self._entropy_gradient(drawn.log_prob, self.entropy_weight * weight)
        drawn.logits.backward(gradient)
        self.optimizer.step()

    def _entropy_gradient(self, log_prob: Float[Tensor, "B M"], weight: Float[Tensor, " B"]) -> Float[Tensor, "B M"]:
        """The gradient, with respect to the logits, of weight * min(entropy, entropy_floor)."""
        part = torch.special.entr(log_prob.exp())
        total = part.sum(1)
        weight = torch.where(total < self.entropy_floor, weight, 0.0)
        return weight[:, None] * (part - log_prob.exp() * total[:, None])

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The entropy of the softmax over the pool, in nats."""
        return {"generator/entropy": entropy(self._drawn.log_prob)}

    def state(self) -> dict[str, Tensor]:
        """The state of the baseline."""
        return self.baseline.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self.baseline.load_state(state)

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The rows of the baseline."""
        return self.baseline.keyed_rows()


def _mean_square(reward: Float[Tensor, "B M"], *_: Tensor) -> Float64[Tensor, " B"]:
    return reward.double().square().mean(1)


def normalised(reward: Reward) -> Reward:
    """The reward, standardised to mean 0 and standard deviation 1 over the global batch; all 0 if rewards are equal."""
    square, mean = reward.means[_SQUARE], reward.mean
    variance = torch.as_tensor(square - mean * mean, dtype=torch.float64, device=reward.value.device)
    spread = variance.clamp(min=0).sqrt()
    return replace(reward, value=(reward.value - mean) / torch.where(spread > 0, spread, 1.0), mean=0.0)


def entropy(log_prob: Float[Tensor, "B M"]) -> Float[Tensor, " B"]:
    """The entropy of each row in nats; entries of probability 0 add nothing."""
    return torch.special.entr(log_prob.exp()).sum(1)
