"""A generator that is a KGE model and draws its negatives from all entities, not from a pool.

IGAN (Wang, Li and Pan, Incorporating GAN for negative sampling in knowledge representation learning, AAAI 2018) draws
from a softmax over all entities. In KCGAN (Zia and Windridge, A generative adversarial network for single and multi-hop
distributional knowledge base completion, Neurocomputing 2021) the generator also learns to complete the graph.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.table_draws import draw_entities
from embedding.table_queries import Answers
from embedding.whole_table import log_sum_exp
from generator.distinct_draws import policy_coefficients
from generator.kbgan import Side
from generator.sampler import NegativeSampler, Reward, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives, Proposal
from graph.errors import InputError


@dataclass(frozen=True)
class _Draw:
    log_total: Float64[Tensor, " B"]
    """The logarithm of the softmax's denominator, differentiable."""
    log_prob: Float64[Tensor, "B N"]
    """The log-probability of each draw, differentiable."""
    target_log_prob: Float64[Tensor, " B"]
    """The log-probability of each positive's target, differentiable."""


class WholeTableSoftmaxSampler(NegativeSampler):
    """Draws distinct negatives from the softmax of a generator model's scores of all entities (as IGAN, AAAI 2018).

    The model learns by the policy gradient of its draws, with the positive's other draws as baseline
    (`policy_coefficients`). With supervised_weight above 0 it also learns from the positives (as KCGAN, 2021).

    `propose` returns entities [B, N]: each positive has its own, whatever the chunk_size. A step computes the scores
    [B, E] of all entities three times: for the draws, for the softmax's denominator, and for its gradient. Each rank
    scores the queries of all ranks with its own rows, so that rows are not sent.

    Args:
        model: makes the generator's model from its site; its scores are the logits.
        optimizer: makes the optimiser of that model.
        dim: numbers in an entity vector of the model.
        num_negatives: distinct draws for each positive; at least 2 and below the number of entities.
        side: how the corrupted side is chosen, "uniform" or "bernoulli".
        supervised_weight: the weight, beside the reward, of the log-probability of the right answer; 0: not used.
        mask_known: leave train facts out of the softmax. A query with too few other entities keeps them, and the loss
            leaves them out. The target is a train fact and can't be drawn, so `Negatives.proposal` is None. The right
            answer's log-probability is then taken over it and the entities that are left.
    """

    model: KGEModel
    optimizer: ModelOptimizer
    bounded_by_entities: ClassVar[Mapping[str, int]] = {"num_negatives": 1}

    def __init__(
        self,
        context: SamplerContext,
        *,
        model: Callable[..., KGEModel],
        optimizer: Callable[[KGEModel], ModelOptimizer],
        dim: int,
        num_negatives: int,
        side: str,
        supervised_weight: float,
        mask_known: bool,
    ) -> None:
        super().__init__(context)
        if side not in list(Side):
            raise InputError(f"generator.side must be one of {', '.join(Side)}, got {side!r}")
        if supervised_weight < 0:
            raise InputError(f"generator.supervised_weight must be at least 0, got {supervised_weight}")
        self.num_negatives = num_negatives
        self.side = Side(side)
        self.supervised_weight = supervised_weight
        self.mask_known = mask_known
        self.check_options()
        self.model = model(context.site, name="generator", dim=dim)  # pyright: ignore[reportIncompatibleVariableOverride]
        self._make_optimizer = optimizer
        self.start_stage()

    def check_options(self) -> None:
        """Requires 2 <= num_negatives < number of entities."""
        count, entities = self.num_negatives, self.context.num_entities
        require_at_least("generator.num_negatives", count, 2)
        if count >= entities:
            raise InputError(f"generator.num_negatives must be below the graph's {entities} entities, got {count}")

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """1/2 for side=uniform; tph / (tph + hpt) of each relation for side=bernoulli."""
        return super().head_probability if self.side == Side.UNIFORM else self.context.statistics.head_probability

    @property
    def knows_proposal(self) -> bool:
        """True unless train facts, among them the target, are left out of the softmax."""
        return not self.mask_known

    def start_stage(self) -> None:
        """Makes a new optimiser; the model keeps what pre-training gave it."""
        self.optimizer = self._make_optimizer(self.model)  # pyright: ignore[reportIncompatibleVariableOverride]

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Draws from the model's softmax; does not call `score`. Collective."""
        excluded = self._excluded(batch) if self.mask_known else None
        entity = draw_entities(self.model, batch, self.num_negatives, "draws from all entities", excluded)
        total = log_sum_exp(self.model, batch, excluded)
        # Draws and targets are scored in one call. The backward of a call adds the relations' gradients over ranks,
        # those of log_sum_exp included.
        scores = self.model.score_candidates(batch, torch.cat([entity, batch.target[:, None]], dim=1)).double()
        target = scores[:, -1]
        log_prob = scores[:, :-1] - total[:, None]
        of_target = target - (torch.logaddexp(total, target) if self.mask_known else total)
        self._drawn = _Draw(total, log_prob, of_target)
        # By rounding, the logarithm of the sum may be below the largest score, and a probability above 1.
        negative = log_prob.detach().clamp(max=0)
        return Negatives(
            entity,
            known=self.context.known.contains(batch, entity) if self.mask_known else None,
            log_prob=negative,
            proposal=None if self.mask_known else Proposal(negative, of_target.detach().clamp(max=0)),
        )

    @torch.no_grad()
    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"] | None:
        """See `NegativeSampler.log_q`."""
        if self.mask_known:
            return None
        scores = self.model.score_candidates(batch, entity).double()
        return (scores - self._drawn.log_total.detach()[:, None]).clamp(max=0)

    def _excluded(self, batch: Batch) -> Answers:
        """The known answers of each query; none for a query that would be left with too few entities."""
        row, entity = self.context.known.answers(batch)
        left = self.context.num_entities - torch.bincount(row, minlength=len(batch.head))
        enough = left[row] > self.num_negatives
        return row[enough], entity[enough]

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Steps the model along the gradient of reward + supervised_weight * log p(right answer). Collective."""
        drawn = self._drawn
        coefficient = policy_coefficients(drawn.log_prob.detach(), reward.value)
        value = (coefficient * drawn.log_prob).sum(1) + self.supervised_weight * drawn.target_log_prob
        (-batch.share_of_mean(value)).backward()
        self.optimizer.step()

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The log-probability that the generator gives the right answer, in nats."""
        return {"generator/target_log_prob": self._drawn.target_log_prob.detach()}
