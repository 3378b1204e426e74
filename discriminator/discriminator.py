"""The discriminator: a KGE model with its loss, its optimiser, and the reward that it gives the generator."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from discriminator.fused import is_ruled_out, why_not_fused
from discriminator.loss.loss import Loss, Scores
from discriminator.loss.table_loss import TableLoss
from discriminator.reward import RewardFunction
from discriminator.term.term import Term
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.scoring.fused import FusedLoss
from graph.batch import Batch, Negatives

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """The loss, reward and scores of a batch and its negatives: the result of `Discriminator.judge`."""

    loss: Float64[Tensor, ""]
    """This rank's share of the global mean loss, with gradient. The shares of all ranks add up to the mean."""
    reward: Float[Tensor, "B M"]
    """The reward of each negative [B, N], or of each candidate [B, M] if `Negatives.reward_pool`; without gradient."""
    positive: Float[Tensor, " B"]
    """Scores of the positives, without gradient."""
    negative: Float[Tensor, "B N"]
    """Scores of the negatives, without gradient."""


class Discriminator:
    """The model that is trained to score positives above negatives, and that rewards the generator.

    One training step:

        discriminator.begin_step(batch)  # the global batch
        verdict = discriminator.judge(batch, sampler.propose(batch, score))
        discriminator.learn(verdict)

    Args:
        model: the KGE model.
        loss: compares positives with negatives (`Loss`) or with all entities (`TableLoss`).
        reward: maps scores to the reward of the generator.
        optimizer: makes the optimiser of the model, anew for each stage.
        terms: regularisers and auxiliary losses, added to the loss.
    """

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
        self._one: Tensor | None = None
        self.start_stage()

    def start_stage(self) -> None:
        """Makes a new optimiser. Called at the start of each stage; the model keeps its parameters."""
        self.model.attached.put("loss", self.loss)
        if hasattr(self, "optimizer"):
            del self.optimizer  # first, because its state may be larger than the table
        self.optimizer = self._make_optimizer(self.model)

    def begin_step(self, batch: Batch) -> None:
        """Prepares the model for a step, before the sampler asks for its scores: see `KGEModel.begin_step`. Collective.

        Args:
            batch: the global batch, on any device.
        """
        self.model.begin_step(batch)

    @torch.no_grad()
    def score_candidates(self, batch: Batch, entity: Int64[Tensor, "C M"]) -> Float[Tensor, "B M"]:
        """Scores [B, M] of the triples with entities [C, M] in place of `batch.target`; no gradient. Collective."""
        return self.model.score_candidates(batch, entity)

    def judge(self, batch: Batch, negatives: Negatives) -> Verdict:
        """Scores positives and negatives, and computes the loss and the reward. Changes no parameter. Collective.

        Args:
            batch: this rank's B positives.
            negatives: what the sampler proposed for the batch; `entity` is [C, N] or [B, N].

        Returns:
            `Verdict`. Call `learn` with it once, before the next `judge`: its loss holds the gradient. A higher score
            means a more plausible triple; the reward is higher for negatives that should be proposed more often.
        """
        reason = why_not_fused(self.loss, self.model, batch, negatives)
        if reason is None:
            loss, positive, negative = self._fused(batch, negatives)
            rewarded = negative
        else:
            self._log_once(reason, batch, negatives)
            positive, negative, rewarded = self._scores(batch, negatives)
            loss = batch.share_of_mean(self._loss(batch, negatives, positive, negative))
        for term in self.terms:
            loss = loss + batch.share_of_mean(term(self.model, batch))
        positive, negative = positive.detach(), negative.detach()
        return Verdict(loss, self.reward(positive, rewarded.detach(), batch.step), positive, negative)

    def _fused(self, batch: Batch, negatives: Negatives) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, positive scores and negative scores from one kernel; only if `why_not_fused` returned None."""
        assert isinstance(self.loss, Loss)
        assert self.loss.kernel is not None
        given = FusedLoss(self.loss.kernel, negatives.known, batch.weight / batch.global_weight)
        fused = self.model.fused_scores(batch, negatives.entity, given)
        return fused.loss, fused.positive, fused.negative

    def _log_once(self, reason: str, batch: Batch, negatives: Negatives) -> None:
        if reason not in self._logged and self.model.site.rank == 0 and len(batch.head):
            self._logged.add(reason)
            # Who chose such a loss or model has a reason to, and nothing to do about it.
            level = logging.DEBUG if is_ruled_out(self.loss, self.model, negatives) else logging.INFO
            log.log(level, "%s: the fused kernel is not used, because %s", self.model.name, reason)

    def _scores(
        self, batch: Batch, negatives: Negatives
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"], Float[Tensor, "B M"]]:
        """Scores of positives, negatives, and rewarded entities: the pool if `reward_pool`, else the negatives."""
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
        """The derivative of each positive's loss with respect to the score of each negative: the negative's weight.

        0 everywhere for a loss over all entities, which does not use negatives.
        """
        if isinstance(self.loss, TableLoss):
            return torch.zeros_like(negative)
        with torch.enable_grad():
            negative = negative.detach().requires_grad_()
            loss = self._loss(batch, negatives, positive.detach(), negative)
            (slope,) = torch.autograd.grad(loss.sum(), negative)
        return slope

    def learn(self, verdict: Verdict, *, lr_factor: float = 1.0) -> None:
        """Computes the gradient of `verdict.loss` and steps the optimiser once. Collective.

        Args:
            verdict: the result of the last `judge`; its loss can be used only once.
            lr_factor: multiplies the optimiser's learning rates in this step.
        """
        if self._one is None:  # autograd would make it anew in each step
            self._one = torch.ones_like(verdict.loss)
        verdict.loss.backward(self._one)
        self.optimizer.step(lr_factor=lr_factor)
