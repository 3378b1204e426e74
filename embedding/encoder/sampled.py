"""Each step makes only the rows that it reads, from a sample of their neighbours.

A look-up makes its own rows: on the rank that reads them, from the learned rows of their blocks, which come from their
owners by one look-up in the table of learned rows. Draws are functions of the step, the layer and the entity, so each
rank, and each look-up of a step, makes the same row of an entity. Backward of the loss goes on through the encoder to
these learned rows, and the table brings their gradients to the owners, as without an encoder.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.encoder.blocks import BlockMaker
from embedding.encoder.encoder import Encoder
from embedding.encoder.encoding import Encoding, not_begun
from embedding.encoder.incoming import Draw, IncomingEdges, KeptEdges
from embedding.lookup import Lookup
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer
from graph.batch import Batch
from kernels.row_gradient import RowGradient
from kernels.rows import distinct_rows

_BLOCK_ROWS = 1 << 13
"""Entities whose rows `encode` makes at a time: memory beside the tables is that of their neighbours' rows."""


class SampledEncoding(Encoding):
    """See the top of this file.

    The rows of all entities are made by `encode` alone. In a step, `EmbeddingTable.look_up` gives rows of the step; who
    reads `EmbeddingTable.weight` would see those of the last `encode`.

    Args:
        encoder, entity, scorer, rank, world_size: see `Encoding`.
        edges: of train.
    """

    def __init__(
        self,
        encoder: Encoder,
        edges: IncomingEdges,
        entity: EmbeddingTable,
        scorer: TripleScorer,
        *,
        rank: int,
        world_size: int,
    ) -> None:
        super().__init__(encoder, entity, scorer, rank=rank, world_size=world_size)
        self._edges = edges
        self._blocks = BlockMaker(len(entity.row_of_entity), dtype=entity.weight.dtype, device=entity.weight.device)
        self._step: _Step | None = None

    @torch.no_grad()
    def encode(self) -> None:
        """See `LearnedRows.encode`. Layer by layer, and in each layer some thousand entities at a time."""
        table, edges = self._entity, self._edges.all()
        self._step = table.maker = None
        table.weight = self._learned.weight
        *read, seen = self.encoder.relation_levels(self.relation)
        for number, relations in enumerate(read):
            made = torch.empty_like(table.weight)
            for first in range(0, table.block, _BLOCK_ROWS):  # equally often on each rank
                rows = slice(first, first + _BLOCK_ROWS)
                blocks = self._blocks.blocks(table.entity[rows], edges, [None])
                lookup, (place,) = table.look_up(blocks.entity)
                made[rows] = self.encoder.make(number, lookup.rows[place], relations, blocks.hops[0], None)
            table.weight = made
        self._show_relations(seen)

    def begin_step(self, batch: Batch) -> None:
        """See `LearnedRows.begin_step`. Makes the relation rows; look-ups make entity rows from now on."""
        batch = batch.to(self.encoder.site.device)
        for parameter in self.encoder.parameters():
            parameter.grad = None
        with torch.enable_grad():
            *read, seen = self.encoder.relation_levels(self.relation)
        self._show_relations(seen.detach())
        self._step = _Step(batch, self._edges.without(batch), read, seen)
        self._entity.maker = self._look_up

    def _look_up(self, *entities: Int64[Tensor, "..."]) -> tuple[Lookup, list[Int64[Tensor, "..."]]]:
        """What `EmbeddingTable.look_up` does in a step. Collective when partitioned."""
        step = self._step
        assert step is not None
        wanted, place = distinct_rows(torch.cat([each.flatten() for each in entities]), len(self._entity.row_of_entity))
        draws = [
            Draw.of(self.encoder.site.name, step.batch, layer, fanout)
            for layer, fanout in enumerate(self.encoder.fanout or ())
        ]
        blocks = self._blocks.blocks(wanted, step.edges, draws)
        rows = self.encoder(self._learned(blocks.entity), step.leaves, blocks.hops, step.batch)
        pieces = place.split([each.numel() for each in entities])
        return Lookup.of(rows.contiguous()), [
            piece.view(each.shape) for piece, each in zip(pieces, entities, strict=True)
        ]

    def take_gradient(self) -> RowGradient:
        """See `LearnedRows.take_gradient`: of the learned rows that the step's blocks have."""
        step, self._step = self._step, None
        if step is None:
            raise not_begun()
        self._entity.maker = None
        gradient = self._learned.take_gradient()
        made = [(level, leaf.grad) for level, leaf in zip(step.read, step.leaves, strict=True)]
        made = [(level, given) for level, given in [*made, (step.seen, self._take_seen())] if given is not None]
        inputs = [self.relation, *self.encoder.parameters()]
        parts: tuple[Tensor | None, ...] = (None,) * len(inputs)
        if made:
            levels, given = zip(*made, strict=True)
            parts = torch.autograd.grad(levels, inputs, given, allow_unused=True)
        for parameter, part in zip(inputs, parts, strict=True):
            # The part by relation rows, and that which the loss's backward gave.
            both = [each for each in (part, parameter.grad) if each is not None]
            self._give(parameter, torch.stack(both).sum(0) if both else None)
        return gradient


class _Step:
    """A training step: its edges and its relation rows."""

    def __init__(self, batch: Batch, edges: KeptEdges, read: list[Tensor], seen: Tensor) -> None:
        self.batch = batch
        self.edges = edges
        self.read = read
        """The relation rows that each layer reads, with their autograd graph."""
        self.seen = seen
        """Those that scoring sees."""
        self.leaves = [each.detach().requires_grad_() for each in read]
        """The same as `read`. Each look-up's backward adds to their gradient, which then goes back once."""
