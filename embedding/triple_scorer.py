"""TripleScorer: the dense part of a model, which scores triples and is replicated on every rank."""

from inspect import signature
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from embedding.dropout import Kept
from embedding.exchange import add_over_ranks, adding_over_ranks
from embedding.lookup import Lookup
from embedding.scoring.candidates import Candidates
from embedding.scoring.fused import FusedLoss
from embedding.scoring.network import NetworkScoring
from embedding.scoring.queries import Queries, relation_rows
from embedding.scoring.scoring import QueryScoring, ScoringFunction
from embedding.training_step import TrainingStep
from kernels.queries import HeadRows

# torch 2.13 has another name for the option, and warns of the old one.
_OPTIONS = signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"


class Scored(NamedTuple):
    """What `TripleScorer` returns: a tuple, because DistributedDataParallel looks for tensors in it."""

    positive: Float[Tensor, " B"] | None
    negative: Float[Tensor, "B N"]
    loss: Float64[Tensor, ""] | None = None
    query: Float[Tensor, "B Q"] | None = None
    """The queries, if they were made of their own, as in each training step of a network."""


class TripleScorer(nn.Module):
    """The dense part of a model, which every rank has whole: relation rows and the scoring function.

    Relation rows are kept in float64 and rounded to the type of entity rows when used. The order in which ranks add
    their gradients depends on the number of ranks; in float64 the difference mostly vanishes in the rounding.
    """

    def __init__(self, scoring: ScoringFunction, relation: Float64[Tensor, "R_ R"], dtype: torch.dtype) -> None:
        super().__init__()
        self.scoring = scoring
        self.relation = nn.Parameter(relation)
        self.dtype = dtype

    def relation_rows(self, relation: Int64[Tensor, " B"]) -> Float[Tensor, "B R"]:
        """The rows of these relations, in the type of entity rows; differentiable."""
        return relation_rows(self.relation, relation, self.dtype)

    def forward(
        self,
        lookup: Lookup,
        anchor: Int64[Tensor, " B"],
        relation: Int64[Tensor, " B"],
        target: Int64[Tensor, "B 1"] | None,
        candidates: Int64[Tensor, "C N"],
        head_rows: HeadRows,
        kept_of_entities: Kept | None,
        kept_of_relations: Kept | None,
        step: TrainingStep | None = None,
        loss: FusedLoss | None = None,
    ) -> Scored:
        """Scores as `ScoringFunction.score_batch` does; with `loss`, computes the scores and their loss together.

        DDP sums over ranks the gradients of all parameters that are used here.

        Args:
            anchor: place in the look-up of the entity that is not corrupted.
            relation: relation row of each query.
            target: place of the entity that the candidates replace; None: the positives are not scored.
            candidates: places of the candidates of each chunk.
            head_rows: the first `head_rows` queries ask for heads, the others for tails.
            kept_of_entities, kept_of_relations: what dropout leaves of rows; None without dropout, and with `step`.
            step: the training step, for a scoring function that is a network; None for all others and outside of
                training.
        """
        queries = Queries(lookup, anchor, self.relation, relation, head_rows, kept_of_entities, kept_of_relations)
        targets, others = None if target is None else Candidates(lookup, target), Candidates(lookup, candidates)
        scoring = self.scoring
        if step is None and loss is None:
            return Scored(*scoring.score_batch(queries, targets, others))
        assert targets is not None
        assert isinstance(scoring, QueryScoring)
        query = scoring.make_queries(queries) if step is None else self._training_queries(queries, step)
        assert query is not None
        if loss is None:
            return Scored(*scoring.score_queries(query, targets, others), query=query)
        fused = scoring.fused_scores(query, targets, others, loss)
        return Scored(fused.positive, fused.negative, fused.loss, query)

    def _training_queries(self, queries: Queries, step: TrainingStep) -> Float[Tensor, "B Q"]:
        assert isinstance(self.scoring, NetworkScoring)
        return self.scoring.training_queries(queries.entity_rows(), queries.relation_rows(), step)


def replicate(scorer: TripleScorer) -> DistributedDataParallel:
    """The same module, which in backward sums the gradients of all its parameters over ranks."""
    # Running statistics are buffers; they are equal on all ranks without being sent.
    unsynchronised: dict[str, Any] = {_SYNC_BUFFERS: False}
    # Gradients lie where DDP sums them: else it would copy each sum back.
    replicated = DistributedDataParallel(scorer, gradient_as_bucket_view=True, **unsynchronised)
    # DDP averages gradients by default. Each rank's loss is its share of the global mean, so they must be added.
    replicated.register_comm_hook(None, _add_gradients)
    return replicated


def _add_gradients(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    if bucket.buffer().device.type != "cpu":  # a future of our own could not hold a tensor of a GPU
        return adding_over_ranks(bucket.buffer())
    added: torch.futures.Future[Tensor] = torch.futures.Future()
    added.set_result(add_over_ranks(bucket.buffer()))
    return added
