"""Encoding: the learned rows behind a model's tables, and the gradients that go back to them.

A model with an encoder has two tables: the learned rows, which the optimiser moves and checkpoints hold, and the rows
that the encoder makes of them, which everything else reads: scoring, samplers, losses, ranking and export. So backward
has two stages. The first one is as without an encoder: from the loss to the rows that were read, summed at their owner.
The second one takes these sums as the gradient of all that the encoder made, and goes on to the learned rows and to the
encoder's parameters.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embedding.encoder.edges import TrainEdges
from embedding.encoder.encoder import Encoder
from embedding.exchange import add_over_ranks
from embedding.frozen import RELATION
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer
from graph.batch import Batch
from kernels.rows import RowGradient


class Encoding:
    """Puts an encoder in front of a model's table and of its relation rows.

    The initial values of both become those of the learned rows.

    Args:
        encoder: makes the rows.
        edges: of train, into this rank's rows.
        entity: the table that everything reads.
        scorer: has the relation rows that everything reads.
        world_size: the number of ranks; `rank` is this one.
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
        self.encoder = encoder
        self.weight: Float[Tensor, "L E"] = entity.weight
        """The learned entity rows of this rank's block."""
        self.relation = nn.Parameter(scorer.relation.detach().clone())
        """The learned relation rows, float64."""
        self._edges = edges
        self._entity = entity
        self._scorer = scorer
        self._rank = rank
        self._world_size = world_size
        self._made: tuple[Tensor, Tensor, Tensor] | None = None
        """In a step: the learned entity rows, and the entity and relation rows that were made of them."""

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The learned relation rows and the encoder's parameters, by their names in checkpoints."""
        own = {f"encoder.{name}": parameter for name, parameter in self.encoder.named_parameters()}
        return {RELATION: self.relation, **own}

    @torch.no_grad()
    def encode(self) -> None:
        """Makes the rows from all edges, without dropout. Collective when partitioned."""
        self._made = None
        self._show(*self.encoder(self.weight, self.relation, self._edges.all(), None))

    def begin_step(self, batch: Batch) -> None:
        """Makes the rows of a training step: without the edges of its positives. Collective when partitioned.

        Args:
            batch: the global batch, on the device of the rows.
        """
        learned = self.weight.detach().requires_grad_()
        with torch.enable_grad():
            made = self.encoder(learned, self.relation, self._edges.without(batch), batch)
        self._made = learned, *made
        self._show(*made)

    def _show(self, entity: Float[Tensor, "L E"], relation: Float[Tensor, "R_ W"]) -> None:
        self._entity.weight = entity.detach()
        with torch.no_grad():
            self._scorer.relation.copy_(relation)

    def backward(self, gradient: RowGradient) -> RowGradient:
        """The second stage: gives the learned relation rows and the parameters their gradients, summed over ranks.

        Collective when partitioned.

        Args:
            gradient: of the rows that this rank owns and that were made in `begin_step`, summed over ranks. The
                gradient of relation rows is taken from the scorer, where it is summed over ranks too.
        Returns:
            The gradient of this rank's learned rows: of all of them.
        Raises:
            RuntimeError: the step did not begin with `begin_step`.
        """
        if self._made is None:
            raise RuntimeError("a model with an encoder learns only in a step that began with begin_step")
        (learned, entity, relation), self._made = self._made, None
        by_entity = torch.zeros_like(entity).index_copy_(0, gradient.row, gradient.value)
        by_relation, self._scorer.relation.grad = self._scorer.relation.grad, None
        if by_relation is None or self._rank > 0:  # it is that of all ranks, so one of them passes it on
            by_relation = torch.zeros_like(relation)
        inputs = [learned, self.relation, *self.encoder.parameters()]
        by_rows, *parts = torch.autograd.grad([entity, relation], inputs, [by_entity, by_relation], allow_unused=True)
        for parameter, part in zip(inputs[1:], parts, strict=True):
            part = torch.zeros_like(parameter) if part is None else part.contiguous()
            parameter.grad = add_over_ranks(part) if self._world_size > 1 else part
        return RowGradient(torch.arange(len(by_rows), device=by_rows.device), by_rows.contiguous())
