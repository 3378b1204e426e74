"""Each step makes the rows of all entities from all edges but those of its positives.

So backward has two stages. The first one is as without an encoder: from the loss to the rows that were read, summed at
their owner. The second one takes these sums as the gradient of all that the encoder made, and goes on to the learned
rows and to the encoder's parameters.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from embedding.encoder.edges import Edges, TrainEdges
from embedding.encoder.encoder import Encoder
from embedding.encoder.encoding import Encoding, not_begun
from embedding.encoder.neighbours import Neighbours, WholeHop
from embedding.moments import Moments, moments_of
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer
from graph.batch import Batch
from kernels.row_gradient import RowGradient


class FullGraphEncoding(Encoding):
    """See the top of this file.

    Args:
        encoder, entity, scorer, rank, world_size: see `Encoding`.
        edges: of train, into this rank's rows.

    Making one is Collective when partitioned.
    """

    def __init__(
        self,
        encoder: Encoder,
        edges: TrainEdges,
        entity: EmbeddingTable,
        scorer: TripleScorer,
        *,
        rank: int,
        world_size: int,
    ) -> None:
        super().__init__(encoder, entity, scorer, rank=rank, world_size=world_size)
        self._edges = edges
        self._neighbours = Neighbours(edges.sources, block=entity.block, world_size=world_size)
        self._made: tuple[Tensor, Tensor, Tensor] | None = None
        """In a step: the learned entity rows, and the entity and relation rows that were made of them."""

    @torch.no_grad()
    def encode(self) -> None:
        """See `LearnedRows.encode`."""
        self._made = None
        self._show(*self._make(self.weight, self._edges.all(), None))

    def begin_step(self, batch: Batch) -> None:
        """See `LearnedRows.begin_step`."""
        batch = batch.to(self.encoder.site.device)
        learned = self.weight.detach().requires_grad_()
        with torch.enable_grad():
            made = self._make(learned, self._edges.without(batch), batch)
        self._made = learned, *made
        self._show(*made)

    def _make(
        self, learned: Float[Tensor, "L E"], edges: Edges, batch: Batch | None
    ) -> tuple[Float[Tensor, "L E"], Float64[Tensor, "R_ W"]]:
        """The rows of this rank's entities, and of all relations."""
        *read, seen = self.encoder.relation_levels(self.relation)
        hop = WholeHop(edges, self._entity.entity, self._neighbours)
        moments = None if batch is None else self._moments
        return self.encoder(learned, read, [hop] * len(read), batch, moments), seen

    def _moments(self, value: Float[Tensor, "L P C"]) -> Moments:
        """Over the rows of all entities, of which this rank has L. Collective when partitioned."""
        real = torch.ones(len(value), dtype=torch.float64, device=value.device)
        return moments_of(value, real, self._world_size, rows=len(self._entity.row_of_entity))

    def _show(self, entity: Float[Tensor, "L E"], relation: Float64[Tensor, "R_ W"]) -> None:
        self._entity.weight = entity.detach()
        self._show_relations(relation)

    def take_gradient(self) -> RowGradient:
        """See `LearnedRows.take_gradient`: of all learned rows."""
        gradient = self._entity.take_gradient()
        if self._made is None:
            raise not_begun()
        (learned, entity, relation), self._made = self._made, None
        by_entity = gradient.of_all(len(entity))
        by_relation = self._take_seen()
        if by_relation is None:
            by_relation = torch.zeros_like(relation)
        inputs = [learned, self.relation, *self.encoder.parameters()]
        by_rows, *parts = torch.autograd.grad([entity, relation], inputs, [by_entity, by_relation], allow_unused=True)
        for parameter, part in zip([self.relation, *self.encoder.parameters()], parts, strict=True):
            self._give(parameter, part)
        return RowGradient(None, by_rows.contiguous())
