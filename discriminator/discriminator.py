"""The discriminator: a KGE model with the loss that trains it, the reward it gives and the optimiser that steps it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from discriminator.fused import why_not_fused
from discriminator.loss.loss import Loss, Scores
from discriminator.loss.table_loss import TableLoss
from discriminator.reward import RewardFunction
from discriminator.term.term import Term
from embedding.model import KGEModel
from embedding.optimizer import ModelOptimizer
from embedding.scoring.fused import FusedLoss
from graph.batch import Batch, Negatives

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What the discriminator makes of a batch and its negatives."""

    loss: Float64[Tensor, ""]
    """This rank's share of the global mean loss; the shares of all ranks sum to it."""
    reward: Float[Tensor, "B M"]
    """For each negative, or for each candidate of the pool if the sampler asked for that; without gradient."""
    positive: Float[Tensor, " B"]
    """Scores of the positives, without gradient."""
    negative: Float[Tensor, "B N"]
    """Scores of the negatives, without gradient."""


class Discriminator:
    """Judges negatives, and learns to tell them from positives."""

    def __init__(
        self,
        model: KGEModel,
        *,
        loss: Loss | TableLoss,
        reward: RewardFunction,
        optimizer: Callable[[KGEModel], ModelOptimizer],
        terms: Sequence[Term] = (),
    ) -> None:
        self.model = model
        self.terms = terms
        self.loss = loss
        self.reward = reward
        self._make_optimizer = optimizer
        self._logged: set[str] = set()
        self.start_stage()

    def start_stage(self) -> None:
        """A fresh optimiser, as at the beginning of each of KBGAN's stages."""
        self.model.attach("loss", self.loss)
        self.optimizer = self._make_optimizer(self.model)

    @torch.no_grad()
    def score_candidates(self, batch: Batch, entity: Int64[Tensor, "C M"]) -> Float[Tensor, "B M"]:
        """Scores with each entity in the corrupted place, without gradient. Collective."""
        return self.model.score_candidates(batch, entity)

    def judge(self, batch: Batch, negatives: Negatives) -> Verdict:
        """Scores positives and negatives; the loss has a gradient, the reward has none. Collective."""
        reason = why_not_fused(self.loss, self.model, batch, negatives)
        if reason is None:
            loss, positive, negative = self._fused(batch, negatives)
            rewarded = negative
        else:
            self._log_once(reason, batch)
            positive, negative, rewarded = self._scores(batch, negatives)
            loss = batch.share_of_mean(self._loss(batch, negatives, positive, negative))
        for term in self.terms:
            loss = loss + batch.share_of_mean(term(self.model, batch))
        positive, negative = positive.detach(), negative.detach()
        return Verdict(loss, self.reward(positive, rewarded.detach(), batch.step), positive, negative)

    def _fused(self, batch: Batch, negatives: Negatives) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and scores of one kernel, where `why_not_fused` allows it."""
        assert isinstance(self.loss, Loss)
        assert self.loss.kernel is not None
        given = FusedLoss(self.loss.kernel, negatives.known, batch.weight / batch.global_weight)
        fused = self.model.fused_scores(batch, negatives.entity, given)
        return fused.loss, fused.positive, fused.negative

    def _log_once(self, reason: str, batch: Batch) -> None:
        if reason not in self._logged and self.model.site.rank == 0 and len(batch.head):
            self._logged.add(reason)
            log.info("%s: the fused kernel is not used, because %s", self.model.name, reason)

    def _scores(
        self, batch: Batch, negatives: Negatives
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"], Float[Tensor, "B M"]]:
        """Scores of positives and negatives, and of what is rewarded: the pool, if the sampler asked for that."""
        if not negatives.reward_pool:
            positive, negative = self.model.score(batch, negatives.entity)
            return positive, negative, negative
        assert negatives.pool is not None
        assert negatives.pick is not None
        positive, scores = self.model.score(batch, negatives.pool)
        return positive, scores.gather(1, negatives.pick), scores

    def _loss(
        self, batch: Batch, negatives: Negatives, positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"]
    ) -> Float[Tensor, " B"]:
        if isinstance(self.loss, TableLoss):
            return self.loss(self.model, batch, positive)
        return self.loss(Scores(positive, negative, negatives.known, negatives.proposal, negatives.suspected))

    def slopes(
        self, batch: Batch, negatives: Negatives, positive: Float[Tensor, " B"], negative: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """How fast each positive's loss would rise with the score of each of its negatives: what a negative weighs.

        Zero everywhere for a loss over the whole table, which does not learn from negatives.
        """
        if isinstance(self.loss, TableLoss):
            return torch.zeros_like(negative)
        with torch.enable_grad():
            negative = negative.detach().requires_grad_()
            loss = self._loss(batch, negatives, positive.detach(), negative)
            (slope,) = torch.autograd.grad(loss.sum(), negative)
        return slope

    def learn(self, verdict: Verdict, *, lr_factor: float = 1.0) -> None:
        """Steps the model down the gradient of the loss. Collective.

        Args:
            lr_factor: what the optimiser's learning rates are multiplied by in this step.
        """
        verdict.loss.backward()
        self.optimizer.step(lr_factor=lr_factor)
