"""KGEModel: a knowledge-graph embedding, made of an entity table, relation rows and a scoring function."""

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from embedding.attached import AttachedModules
from embedding.dropout import Kept, RowDropout
from embedding.encoder.choice import EncoderChoice
from embedding.encoder.encoding import Encoding
from embedding.frozen import RELATION, FrozenRows
from embedding.initial_rows import InitialRows
from embedding.learned_rows import LearnedRows, RowsAsRead
from embedding.paths.edge_scoring import EdgeScoring
from embedding.paths.numbered import NumberedRows, check_edge_model, read_edges
from embedding.scoring.fused import FusedLoss, FusedScores
from embedding.scoring.making import make_scoring, query_network
from embedding.scoring.network import batch_norms
from embedding.scoring.scoring import ScoringFunction
from embedding.site import ModelSite
from embedding.training_step import TrainingStep
from embedding.triple_scorer import Scored, TripleScorer, replicate
from graph.batch import Batch
from graph.errors import InputError
from kernels.queries import HeadRows
from kernels.row_gradient import RowGradient
from kernels.updates import Ball

_Heads = TypeVar("_Heads", bound=HeadRows)


class KGEModel:
    """A knowledge-graph embedding on one rank or several. Scores are the same, up to rounding, on any number of ranks.

    Args:
        site: sizes of the graph, ranks, device, type and seed.
        name: "discriminator" or "generator"; part of the key of the initial values, and in front of errors.
        dim: the size of the model; its exact meaning depends on the scoring function.
        scoring: makes the scoring function from `dim`.
        max_norm: after an update, every part of an entity row and of a relation row that is longer than this L2 norm is
            scaled back to it (Bordes et al. 2013; KBGAN uses 1); None: no limit.
        init: distribution of the initial entity rows: uniform, normal, xavier_uniform or xavier_normal; see
            `InitialValues`.
        init_scale: half the width of the uniform distribution, the standard deviation of the normal one, or the factor
            of Xavier's; None: the scoring function's default.
        relation_init_scale: the same for relation rows, which then have the distribution `init`; None: uniform in the
            scoring function's default range, which relations that are angles need.
        reciprocal: if true, each relation r has a second row, r + R, and the heads of (r, t) are scored as tails of
            (t, r + R), in training, ranking and export (Lacroix et al., Canonical tensor decomposition for knowledge
            base completion, ICML 2018).
        entity_dropout, relation_dropout: probabilities; see `RowDropout`.
        encoder: makes the rows that scoring sees from learned rows and the edges of train; None: they are the same.
            Then making the model is collective. See `Encoding`.
    Raises:
        InputError: an option out of range, batch norm or dropout in the scoring function without `reciprocal`, or
            `max_norm` with an encoder.

    Example:
        positive, negative = model.score(batch, entity)  # B positives, entity ids [C, N]: scores [B] and [B, N]
        loss(positive, negative).backward()
        optimizer.step()  # see ModelOptimizer
    """

    def __init__(
        self,
        site: ModelSite,
        *,
        name: str,
        dim: int,
        scoring: Callable[[int], ScoringFunction],
        max_norm: float | None,
        init: str,
        init_scale: float | None,
        relation_init_scale: float | None,
        reciprocal: bool,
        entity_dropout: float,
        relation_dropout: float,
        encoder: EncoderChoice | None = None,
    ) -> None:
        if dim < 1:
            raise InputError(f"{name}.dim must be at least 1, got {dim}")
        if max_norm is not None and max_norm <= 0:
            raise InputError(f"{name}.max_norm must be positive or null, got {max_norm}")
        if encoder is not None and max_norm is not None:
            raise InputError(
                f"{name}.max_norm must be null with an encoder, got {max_norm}: scores are of the rows that the "
                "encoder makes, which nothing scales back"
            )
        self.site = site
        self.name = name
        self.reciprocal = reciprocal
        self.dropout = RowDropout(name, entity_dropout, relation_dropout)
        self.scoring = make_scoring(name, scoring, dim)
        self._initial = InitialRows(name, self.scoring, init, init_scale, relation_init_scale)
        self._edges = self.scoring if isinstance(self.scoring, EdgeScoring) else None
        if self._edges is not None:
            options = {"max_norm": max_norm, "entity_dropout": entity_dropout, "reciprocal": reciprocal}
            check_edge_model(name, options, has_encoder=encoder is not None)
            read_edges(name, self._edges, site)
        self._network = query_network(name, self.scoring, reciprocal=reciprocal)
        self.entity_ball = Ball(tuple(self.scoring.entity_parts.values()), max_norm)
        self.relation_ball = Ball(tuple(self.scoring.relation_parts.values()), max_norm)
        self._encoder = encoder
        self.frozen: FrozenRows | None = None
        """What optimisers must not move; None: nothing."""
        self.reset()

    def reset(self) -> None:
        """Sets every parameter to its initial value: a function of seed, `name`, and entity, relation or index."""
        site, scoring = self.site, self.scoring
        self.entity = self._initial.table(site)
        relation = self._initial.relations(site.num_relations * (2 if self.reciprocal else 1), site.seed)
        scoring.fill_dense(self.name, site.seed)
        self.scorer = TripleScorer(scoring.to(site.device), relation.to(site.device), site.dtype)
        self._replicated: nn.Module = replicate(self.scorer) if site.world_size > 1 else self.scorer
        self.attached = AttachedModules(site)
        self._made: tuple[Batch, Tensor] | None = None
        self.entity.clip_(self.entity_ball)
        self.relation_ball.clip_(self.scorer.relation.detach())
        self.encoding: Encoding | None = None
        """The encoder and the learned rows behind `entity` and `scorer.relation`; None: these are learned."""
        if self._encoder is not None:
            of_model = {"name": self.name, "reciprocal": self.reciprocal}
            self.encoding = self._encoder.in_front_of(self.entity, self.scorer, site, **of_model)
        self._learned = self._learned_behind()
        if site.fills_entities:
            self.encode()

    def _learned_behind(self) -> LearnedRows:
        if self.encoding is not None:
            return self.encoding
        if self._edges is not None:
            return NumberedRows(self.entity, self.scorer, self._edges, self.site.device)
        return RowsAsRead(self.entity, self.scorer)

    @property
    def learned_rows(self) -> Float[Tensor, "L E"]:
        """The entity rows of this rank's block that optimisers move and checkpoints hold."""
        return self._learned.weight

    @learned_rows.setter
    def learned_rows(self, rows: Float[Tensor, "L E"]) -> None:
        self._learned.weight = rows

    @property
    def learned_relations(self) -> nn.Parameter:
        """The relation rows that optimisers move and checkpoints hold."""
        return self._learned.relation

    @property
    def has_vectors(self) -> bool:
        """Whether an entity's row is a vector, learned or made by an encoder; else it is the entity's number."""
        return self._edges is None

    @property
    def has_network(self) -> bool:
        """Whether a network makes the queries, with batch norm or dropout of its own: see `NetworkScoring`."""
        return self._network is not None

    @property
    def samples_neighbours(self) -> bool:
        """Whether a training step makes only the rows that it looks up: see `Encoder`, `fanout`."""
        return self.encoding is not None and self.encoding.encoder.fanout is not None

    def encode(self) -> None:
        """Makes the rows that scoring sees, after the learned ones have changed. Collective.

        Call it after the last of some training steps, before anything else reads rows. It matters for a model with an
        encoder, for an `EdgeScoring`, which takes all edges again, and for replicated rows.
        """
        self._learned.encode()
        self.entity.replicate()

    def begin_step(self, batch: Batch) -> None:
        """Prepares for a training step. Collective.

        Rows on disk come into memory. An encoder makes the rows that scoring sees, without the edges of the step's
        positives; an `EdgeScoring` leaves these edges out too.

        Args:
            batch: the global batch, on any device.
        """
        if self.site.storage is not None and batch.resident is not None:
            self.site.storage.enter(batch.resident)
        self._learned.begin_step(batch)

    def take_gradient(self) -> RowGradient:
        """The gradient of this rank's learned rows, from all look-ups since the last call. Collective.

        An encoder's parameters and the learned relation rows get their gradients too.
        """
        return self._learned.take_gradient()

    def dense_parameters(self) -> list[nn.Parameter]:
        """All parameters except entity rows; equal on all ranks."""
        return list(self.named_dense_parameters().values())

    def named_dense_parameters(self) -> dict[str, nn.Parameter]:
        """The same by name, as in `dense_tensors`."""
        own = {**dict(self.scorer.named_parameters()), **dict(self.attached.named_parameters())}
        return own | self._learned.named_parameters()

    def dense_tensors(self) -> dict[str, Tensor]:
        """All tensors except entity rows, by name: parameters and running statistics; equal on all ranks."""
        return {**self.scorer.state_dict(), **self.attached.state_dict(), **self._learned.named_tensors()}

    def rows_of_a_relation(self) -> dict[str, int]:
        """By name, the dense tensors whose rows belong to relations, and how many each relation r of R has: those of
        number r, r + R, and so on."""
        tensors, names = self.dense_tensors(), [RELATION, *self._learned.relation_parameters()]
        return {name: len(tensors[name]) // self.site.num_relations for name in names}

    def score(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"]]:
        """Scores the positives, and the negatives that they become with each candidate in the corrupted place.

        Makes one look-up. Collective.

        Args:
            batch: B positives; for each, its corrupted side.
            entity: ids of N candidates for each chunk. The positives of a chunk, B / C of them, share its candidates.
        Returns:
            Scores [B] of the positives and [B, N] of the negatives; higher is more plausible. Both are differentiable,
            unless gradients are off.
        """
        scored = self._score(batch, entity, None)
        assert scored.positive is not None
        return scored.positive, scored.negative

    def fused_scores(self, batch: Batch, entity: Int64[Tensor, "C N"], loss: FusedLoss) -> FusedScores:
        """The same scores, not differentiable, and their differentiable loss, by one kernel. Collective.

        Call it only if `why_not_fused` (discriminator/fused.py) gives no reason against it.
        """
        scored = self._score(batch, entity, loss)
        assert scored.positive is not None
        assert scored.loss is not None
        return FusedScores(scored.positive, scored.negative, scored.loss)

    def _score(self, batch: Batch, entity: Int64[Tensor, "C N"], loss: FusedLoss | None) -> Scored:
        """Makes one look-up of all entities of a step."""
        lookup, (anchor, target, place) = self.entity.look_up(batch.anchor, batch.target[:, None], entity)
        relation, head_rows = self.asked(batch.relation, batch.heads_for_kernels)
        trains_network = self._network is not None and torch.is_grad_enabled()
        step = TrainingStep(batch, self.dropout, self.site.world_size) if trains_network else None
        kept = self._kept(batch)
        scored: Scored = self._replicated(lookup, anchor, relation, target, place, head_rows, *kept, step, loss)
        if step is not None and scored.query is not None:
            self._made = batch, scored.query
        return scored

    def made_queries(self, batch: Batch) -> Float[Tensor, "B Q"] | None:
        """The queries that a network made in `score` for this batch, differentiable; None if there are none.

        What compares queries with entities while training must use them: made again, they would take more time, and
        batch norm would count the batch twice.
        """
        return self._made[1] if self._made is not None and self._made[0] is batch else None

    def end_step(self, good: Bool[Tensor, ""] | None = None) -> None:
        """Moves the running statistics of batch norm. Called once after each step that changes the model.

        Args:
            good: as `ModelOptimizer.good`.
        """
        self._made = None
        for norm in batch_norms(self.scoring):
            norm.end_step(good)
        self._learned.end_step(good)

    def _kept(self, batch: Batch) -> tuple[Kept | None, Kept | None]:
        """What dropout leaves of entity and relation rows; None without dropout.

        A network drops numbers itself, in `score`, and nothing outside of it.
        """
        if self._network is not None:
            return None, None
        return (
            self.dropout.kept_of_entities(batch, self.scoring.entity_width),
            self.dropout.kept_of_relations(batch, self.scoring.relation_width),
        )

    def asked(self, relation: Int64[Tensor, " B"], head_rows: _Heads) -> tuple[Int64[Tensor, " B"], _Heads | int]:
        """The relation row of each query, and how many of the queries ask for heads.

        All code that scores queries must call it: with reciprocal relations, all queries ask for tails.

        Args:
            relation: the relation of each query; the first `head_rows` ask for heads.
        """
        if not self.reciprocal:
            return relation, head_rows
        of_head = torch.arange(len(relation), device=relation.device) < head_rows
        return relation + self.site.num_relations * of_head, 0

    def query_rows(self, batch: Batch) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B R"], int]:
        """The rows of each query, differentiable, with dropout if gradients are on. Collective.

        Of a network, these are not the queries of a training step; see `made_queries`.

        Returns:
            The rows of the entities that are not corrupted, the rows of the relations, and how many queries, the first
            ones, ask for heads.
        """
        row, head_rows = self.asked(batch.relation, batch.head_rows)
        entity, relation = self.entity(batch.anchor), self.scorer.relation_rows(row)
        of_entities, of_relations = self._kept(batch)
        if of_entities is not None:
            entity = of_entities.of(entity)
        if of_relations is not None:
            relation = of_relations.of(relation)
        return entity, relation, head_rows

    def triple_rows(self, batch: Batch) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B R"], Float[Tensor, "B E"]]:
        """Copies of the rows of each positive's head, relation and tail, differentiable. Collective.

        Call it only in a step that also calls `score`: DDP sums the gradients of relation rows during its backward.
        """
        head, tail = self.entity(torch.cat([batch.head, batch.tail])).chunk(2)
        return head, self.scorer.relation_rows(self.asked(batch.relation, batch.head_rows)[0]), tail

    def score_candidates(self, batch: Batch, entity: Int64[Tensor, "C M"]) -> Float[Tensor, "B M"]:
        """Scores of the negatives alone: as those of `score`, without dropout. Collective.

        Batch norm uses its running statistics, also if gradients are on, as in a generator that learns from them.
        """
        lookup, (anchor, place) = self.entity.look_up(batch.anchor, entity)
        relation, head_rows = self.asked(batch.relation, batch.heads_for_kernels)
        return self._replicated(lookup, anchor, relation, None, place, head_rows, None, None).negative
