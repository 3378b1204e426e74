"""EANS (Je, Entity aware negative sampling with auxiliary loss of false negative prediction for knowledge graph
embedding, arXiv 2210.06242): negatives from clusters near the target's. The paper's auxiliary loss is left out."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.clusters import greedy_path, k_means
from generator.refreshed import RefreshedSampler, saved_entities
from generator.sampler import SamplerContext, ScoreCandidates, require_at_least
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.counter_random import stream
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids

_MOST_CLUSTERS = 100
"""The paper's number for FB15k-237 and WN18RR."""
_ENTITIES_A_PLACE = 50
"""The paper's deviations, 290 of 14,541 entities and 800 of 40,943, are both a fiftieth."""
_REACH = 9
"""No draw is further from the mean than this many standard deviations: uniform numbers of 52 bits give at most 8.3."""


class EANSSampler(RefreshedSampler):
    """Orders all entities by cluster, with similar clusters side by side, and draws entities near the target (Je 2022).

    place of a negative = place of the target + trunc(z), modulo E (the number of entities), with z from a Gaussian of
    mean 0. A share 0.8 / spread of the draws is the target itself, as in the paper's code: leave `mask_known` on.

    `propose` returns entities [B, N]: each positive has its own, whatever the chunk_size. At each refresh every rank
    clusters all entities, which costs iterations x E x clusters products of rows.

    Args:
        num_negatives: independent draws for each positive.
        clusters: number of k-means clusters of the trained model's rows, at most E; None: the square root of E, at most
            the paper's 100.
        iterations: k-means iterations.
        spread: the standard deviation of z, in places (the paper's code calls it a variance); None: E / 50, as in the
            paper.
        refresh_steps: steps from one clustering to the next; 0: cluster once, when the stage starts.
        mask_known: leave negatives that are train facts out of the loss.
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        num_negatives: int,
        clusters: int | None,
        iterations: int,
        spread: float | None,
        refresh_steps: int,
        mask_known: bool,
    ) -> None:
        super().__init__(context, key="refresh_steps", period=refresh_steps)
        context.require_vectors()
        expect_int32_ids("generator=eans", context.num_entities)
        if clusters is None:
            clusters = min(_MOST_CLUSTERS, math.isqrt(context.num_entities))
        if spread is None:
            spread = float(max(1, context.num_entities // _ENTITIES_A_PLACE))
        for name, value in (("clusters", clusters), ("iterations", iterations)):
            require_at_least(f"generator.{name}", value, 1)
        if clusters > context.num_entities:
            raise InputError(
                f"generator.clusters must not exceed the graph's {context.num_entities} entities, got {clusters}"
            )
        if not 0 < spread < math.inf:
            raise InputError(f"generator.spread must be positive, got {spread}")
        self.num_negatives = num_negatives
        self.clusters = clusters
        self.iterations = iterations
        self.spread = spread
        self.mask_known = mask_known
        self.check_options()
        device = context.site.device
        self.log_probability = log_offset_probability(spread, context.num_entities).to(device)
        self._put(torch.arange(context.num_entities, device=device))

    @property
    def knows_proposal(self) -> bool:
        """Always true."""
        return True

    def check_options(self) -> None:
        """Requires num_negatives >= 1."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)

    def _put(self, entity_at: Int64[Tensor, " E"]) -> None:
        self.entity_at = entity_at
        self.place_of = torch.empty_like(entity_at)
        self.place_of[entity_at] = torch.arange(len(entity_at), device=entity_at.device)

    def refresh(self, batch: Batch) -> None:
        """Clusters the rows and orders the entities; see `RefreshedSampler.refresh`."""
        key = stream("first centroids", batch.seed, batch.step)
        cluster, centroid = k_means(self.player, self.clusters, self.iterations, key)
        turn = torch.empty_like(cluster[: self.clusters])
        turn[greedy_path(centroid)] = torch.arange(self.clusters, device=turn.device)
        self._put(turn[cluster].argsort(stable=True))

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Clusters again if that is due, then draws; does not call `score`. Collective."""
        self.keep_fresh(batch, batch.step)
        uniform = batch.uniform_per_positive("offsets", self.num_negatives)
        offset = (self.spread * torch.special.ndtri(uniform)).long()
        entity = self.entity_at[(self.place_of[batch.target][:, None] + offset) % len(self.entity_at)]
        known = self.context.known.contains(batch, entity) if self.mask_known else None
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"]:
        """See `NegativeSampler.log_q`."""
        offset = self.place_of[per_positive(entity, len(batch.head))] - self.place_of[batch.target][:, None]
        return self.log_probability[offset % len(self.log_probability)]

    def made(self) -> dict[str, Tensor]:
        """The entity at each place."""
        return {"entity_at": self.entity_at.int()}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """See `RefreshedSampler.load_made`."""
        entity_at = saved_entities(made, "entity_at", self.entity_at, self.context.num_entities)
        if len(entity_at.unique()) < len(entity_at):
            raise ValueError("'entity_at' must hold each entity once, but holds some twice")
        self._put(entity_at)


def log_offset_probability(spread: float, places: int) -> Float64[Tensor, " E"]:
    """The log-probability of trunc(z) modulo `places`, for z from a Gaussian of mean 0 and deviation `spread`."""
    reach = math.ceil(_REACH * spread)
    offset = torch.arange(-reach, reach + 1)
    # |trunc(z)| = n means n <= |z| < n + 1. Differences are taken in the lower tail, where they lose no digits.
    distance = offset.abs().double() / spread
    mass = torch.special.ndtr(-distance) - torch.special.ndtr(-distance - 1 / spread)
    mass[reach] *= 2  # trunc(z) = 0 for z on both sides of 0
    return torch.zeros(places, dtype=torch.float64).index_add_(0, offset % places, mass).log()
