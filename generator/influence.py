"""Negatives chosen by their influence: how a training step on a candidate would change the loss of other train facts.

Influence functions are those of Koh and Liang (Understanding black-box predictions via influence functions, ICML 2017),
computed as a product of gradients (Pruthi et al., Estimating training data influence by tracing gradient descent,
NeurIPS 2020). The sampler itself is ours: no paper publishes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import softplus

from embedding.model import KGEModel
from generator.distinct_draws import LAST, repeated
from generator.refreshed import RefreshedSampler
from generator.sampler import SamplerContext, ScoreCandidates, require_at_least
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.counter_random import gumbel, random_integers, stream
from graph.errors import InputError
from kernels.largest import largest
from kernels.row_sums import sum_occurrences

_BLOCK_NUMBERS = 1 << 21
"""Candidates are differentiated in blocks; their rows have this many numbers together."""

_TINY = 1e-300
"""The least divisor of influences, for a pool whose influences are all 0."""


class InfluenceSampler(RefreshedSampler):
    """Draws candidates whose training would lower the loss of a sample of train facts; suspects those that raise it.

    Influence is that of Koh and Liang (2017), by products of gradients (Pruthi et al. 2020). At each refresh some train
    facts are drawn as a *probe*. Their loss L against uniform negatives has the gradient g with respect to the trained
    model's rows. A gradient step on candidate z, against its positive, changes L by learning rate * I(z), to first
    order:

        I(z) = -slope(z) * (g . grad s(z)),  slope(z) = sigmoid(s(z) - s(positive))

    If I > 0, training z as a negative raises the loss of other facts, as for a fact that is missing from train. Such a
    candidate is marked in `Negatives.suspected`, and drawn only if there are too few others. Draws are without
    replacement and prefer low I. A candidate that shares no row with the probe has I = 0. The facts of the probe are
    trained on like all others.

    The probe's loss and the candidates' loss are softplus(s- - s+) for each pair, whatever loss trains the model. Only
    the gradients of rows count, not those of other parameters of the scoring function.

    `propose` returns entities [B, N]: each positive has its own. A step costs about as much as three more scores for
    each positive and candidate. A rank keeps g for at most held_out * (held_out_negatives + 2) rows.

    Args:
        num_negatives: distinct draws for each positive.
        pool_size: uniform candidates of a chunk, with replacement; at least num_negatives.
        temperature: draws are from the softmax of -I / (temperature * root mean square of I over the positive's pool);
            0 takes the candidates of lowest I.
        held_out: facts in a probe, drawn from train with replacement; a function of (seed, step of the stage).
        held_out_negatives: uniform negatives of each fact of the probe; negatives that are train facts do not count.
        refresh_steps: steps from one probe to the next; 0: one probe, when the stage starts.
        damping: above 0: divide g by (Fisher + damping), where Fisher is the diagonal of the probe's empirical Fisher
            matrix in place of Koh and Liang's Hessian. null: do not divide.
        mask_known: never draw a train fact. If a pool has too few others, train facts are drawn too, and the loss
            leaves them out.
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        num_negatives: int,
        pool_size: int,
        temperature: float,
        held_out: int,
        held_out_negatives: int,
        refresh_steps: int,
        damping: float | None,
        mask_known: bool,
    ) -> None:
        super().__init__(context, key="refresh_steps", period=refresh_steps)
        context.require_vectors()
        for key, value in (("held_out", held_out), ("held_out_negatives", held_out_negatives)):
            require_at_least(f"generator.{key}", value, 1)
        if damping is not None and damping <= 0:
            raise InputError(f"generator.damping must be positive or null, got {damping}")
        self.num_negatives = num_negatives
        self.pool_size = pool_size
        self.temperature = temperature
        self.held_out = held_out
        self.held_out_negatives = held_out_negatives
        self.damping = damping
        self.mask_known = mask_known
        self.check_options()

    def check_options(self) -> None:
        """Requires 1 <= num_negatives <= pool_size and temperature >= 0."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)
        require_at_least("generator.pool_size", self.pool_size, self.num_negatives)
        if self.temperature < 0:
            raise InputError(f"generator.temperature must be at least 0, got {self.temperature}")

    @property
    def suspects(self) -> bool:
        """Always true: negatives of influence above 0 are marked."""
        return True

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Computes the influence of a pool and draws from it; does not call `score`. Collective."""
        self.keep_fresh(batch, batch.step)
        pool = batch.integers("candidates", self.pool_size, self.context.num_entities)
        influence = self.influence(batch, pool)
        value = -influence
        if self.temperature > 0:
            scale = self.temperature * influence.square().mean(1, keepdim=True).sqrt()
            noise = gumbel(batch.uniform_per_positive("draws from the pool", self.pool_size))
            value = value / scale.clamp(min=_TINY) + noise
        suspected, pool = influence > 0, per_positive(pool, len(batch.head))
        value = value.masked_fill(suspected | repeated(pool), LAST)
        known = self.context.known.contains(batch, pool) if self.mask_known else None
        if known is not None:
            value = value.masked_fill(known, -torch.inf)
        pick = largest(value, self.num_negatives)
        self._suspected = suspected
        return Negatives(
            pool.gather(1, pick),
            known=None if known is None else known.gather(1, pick),
            suspected=suspected.gather(1, pick),
        )

    @torch.no_grad()
    def influence(self, batch: Batch, pool: Int64[Tensor, "C M"]) -> Float64[Tensor, "B M"]:
        """I(z) of each candidate: the change of the probe's loss by a step of learning rate 1, to first order.

        Collective.
        """
        queries, (target, candidates) = _Queries.of(self.player, batch, batch.target[:, None], pool)
        positive = queries.scores(target)
        along_anchor, along_relation = self._along_entity(batch.anchor), self._along_relation[queries.relation_id]
        candidates, pool = (each.repeat_interleave(batch.chunk_size, dim=0) for each in (candidates, pool))
        found = []
        size = max(1, _BLOCK_NUMBERS // max(1, len(batch.head) * self._along.shape[1]))
        for rows, entity in zip(candidates.split(size, dim=1), pool.split(size, dim=1), strict=True):
            scores, (by_anchor, by_relation, by_candidate) = queries.gradients(rows, torch.sum)
            derivative = (by_anchor * along_anchor[:, None]).sum(2) + (by_relation * along_relation[:, None]).sum(2)
            derivative += (by_candidate * self._along_entity(entity)).sum(2)
            found.append(-(scores - positive).double().sigmoid() * derivative.double())
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def refresh(self, batch: Batch) -> None:
        """Draws a new probe and computes the gradient of its loss; see `RefreshedSampler.refresh`."""
        probe = self._probe(batch)
        negative = probe.integers("held-out facts' negatives", self.held_out_negatives, self.context.num_entities)
        counted = ~self.context.known.contains(probe, negative)
        entity = torch.cat([probe.target[:, None], negative], dim=1)
        queries, (candidates,) = _Queries.of(self.player, probe, entity)

        def loss(scores: Float[Tensor, "B N"]) -> Float[Tensor, ""]:
            pairs = softplus(scores[:, 1:] - scores[:, :1])
            return (pairs * counted).sum() / counted.sum().clamp(min=1)

        by_anchor, by_relation, by_candidate = queries.gradients(candidates, loss)[1]
        row = torch.cat([probe.anchor[:, None], entity], dim=1)
        by_row = torch.cat([by_anchor.sum(1, keepdim=True), by_candidate], dim=1)
        self._entity, self._along = self._direction(row, by_row, self.context.num_entities)
        by_relation = by_relation.sum(1, keepdim=True)
        relation, along = self._direction(queries.relation_id[:, None], by_relation, len(queries.relations))
        self._along_relation = torch.zeros_like(queries.relations).index_copy_(0, relation, along)

    def _probe(self, batch: Batch) -> Batch:
        """Train facts, the same on every rank. The first half have their head corrupted, the others their tail."""
        count = torch.arange(self.held_out)
        number = random_integers(stream("held-out facts", batch.seed, batch.step), count, len(self.context.train))
        head, relation, tail = self.context.train[number].long().T.contiguous().to(batch.head.device)
        chunk, heads = count.to(head.device), self.held_out // 2
        return Batch.of_facts(head, relation, tail, heads=heads, chunk=chunk, seed=batch.seed, epoch=batch.step)

    def _direction(
        self, row: Int64[Tensor, "V K"], gradient: Float[Tensor, "V K W"], num_rows: int
    ) -> tuple[Int64[Tensor, " U"], Float[Tensor, "U W"]]:
        """The distinct rows and the gradient of each, divided by (Fisher + damping) unless damping is null.

        Args:
            row: the K rows that each of V facts uses; a fact may use a row more than once.
            gradient: the gradient of the mean loss with respect to each of these uses.
        """
        distinct, total = sum_occurrences(row.flatten(), gradient.flatten(0, 1), num_rows, torch.float64)
        if self.damping is not None:
            fact = torch.arange(len(row), device=row.device)[:, None]
            pair, place = torch.unique((fact * num_rows + row).flatten(), return_inverse=True)
            _, of_pair = sum_occurrences(place, gradient.flatten(0, 1), len(pair), torch.float64)
            # Fisher is the mean over facts of squared gradients. A fact's gradient is `held_out` times its part of the
            # gradient of the mean loss, so Fisher = held_out^2 * squares / held_out.
            _, squares = sum_occurrences(pair % num_rows, of_pair.square(), num_rows, torch.float64)
            total = total / (self.held_out * squares + self.damping)
        return distinct, total.to(gradient.dtype)

    def _along_entity(self, entity: Int64[Tensor, "*s"]) -> Float[Tensor, "*s E"]:
        """g for the rows of these entities; 0 for entities that the probe does not use."""
        place = torch.searchsorted(self._entity, entity).clamp(max=len(self._entity) - 1)
        return self._along[place] * (self._entity[place] == entity)[..., None]

    def made(self) -> dict[str, Tensor]:
        """The gradient g of the probe: entities, and the gradients of entity and relation rows."""
        return {"entity": self._entity, "along": self._along, "along_relation": self._along_relation}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """See `RefreshedSampler.load_made`."""
        device = self.context.site.device
        self._entity, self._along = made["entity"].to(device), made["along"].to(device)
        self._along_relation = made["along_relation"].to(device)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The share of suspected candidates in each positive's pool."""
        return {"generator/suspected": self._suspected.double().mean(1)}


@dataclass(frozen=True)
class _Queries:
    """Queries with copies of their rows: differentiating their scores leaves no gradient in the model's tables."""

    model: KGEModel
    anchor: Float[Tensor, "B E"]
    relation: Float[Tensor, "B R"]
    relation_id: Int64[Tensor, " B"]
    relations: Float[Tensor, "R_ R"]
    """The rows of all relations."""
    heads: int
    """The first `heads` queries ask for heads, the others for tails."""

    @classmethod
    def of(
        cls, model: KGEModel, batch: Batch, *entities: Int64[Tensor, "_ _"]
    ) -> "tuple[_Queries, list[Float[Tensor, '_ _ E']]]":
        """The queries of a batch, and the rows of the entities in each tensor of ids. Collective."""
        lookup, (anchor, *places) = model.entity.look_up(batch.anchor, *entities)
        relation_id, heads = model.asked(batch.relation, batch.head_rows)
        relations = model.scorer.relation.detach().to(lookup.rows.dtype)
        queries = cls(model, lookup.rows[anchor], relations[relation_id], relation_id, relations, heads)
        return queries, [lookup.rows[place] for place in places]

    def scores(self, candidates: Float[Tensor, "B n E"]) -> Float[Tensor, "B n"]:
        """Scores of each query with its own candidates."""
        shape = candidates.shape[:2]
        return self._score(
            self.anchor[:, None].expand(*shape, -1), self.relation[:, None].expand(*shape, -1), candidates
        )

    def _score(
        self, anchor: Float[Tensor, "B n E"], relation: Float[Tensor, "B n R"], candidates: Float[Tensor, "B n E"]
    ) -> Float[Tensor, "B n"]:
        head = torch.cat([candidates[: self.heads], anchor[self.heads :]]).flatten(0, 1)
        tail = torch.cat([anchor[: self.heads], candidates[self.heads :]]).flatten(0, 1)
        return self.model.scoring.score(head, relation.flatten(0, 1), tail).view(candidates.shape[:2])

    def gradients(
        self, candidates: Float[Tensor, "B n E"], function: Callable[[Float[Tensor, "B n"]], Float[Tensor, ""]]
    ) -> tuple[Float[Tensor, "B n"], tuple[Tensor, ...]]:
        """Scores, and the gradients of function(scores) with respect to the rows of anchor, relation and candidate.

        The gradients have shape [B, n, .], one for each score. Forward mode (torch.func.jvp) is not used, because some
        scoring functions only define a backward.
        """
        shape = candidates.shape[:2]
        rows = (self.anchor[:, None].expand(*shape, -1), self.relation[:, None].expand(*shape, -1), candidates)
        leaves = [each.detach().clone().requires_grad_() for each in rows]
        with torch.enable_grad():
            scores = self._score(*leaves)
            value = function(scores)
        return scores.detach(), torch.autograd.grad(value, leaves)
