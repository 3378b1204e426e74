"""Encoding: the learned rows behind a model's tables, and the gradients that go back to them.

A model with an encoder has two tables: the learned rows, which the optimiser moves and checkpoints hold, and the rows
that the encoder makes of them, which everything else reads: scoring, samplers, losses, ranking and export.
"""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from embedding.encoder.encoder import Encoder
from embedding.exchange import add_over_ranks
from embedding.frozen import RELATION
from embedding.learned_rows import LearnedRows
from embedding.scoring.network import batch_norms
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer


class Encoding(LearnedRows):
    """Puts an encoder in front of a model's table and of its relation rows.

    The initial values of both become those of the learned rows. A training step raises RuntimeError unless it begins
    with `begin_step`.

    Args:
        encoder: makes the rows.
        entity, scorer: see `LearnedRows`.
        world_size: the number of ranks; `rank` is this one.
    """

    def __init__(
        self, encoder: Encoder, entity: EmbeddingTable, scorer: TripleScorer, *, rank: int, world_size: int
    ) -> None:
        super().__init__(entity, scorer)
        self.encoder = encoder
        self._learned = entity.beside(f"{entity.name} learned")
        self._relation = nn.Parameter(scorer.relation.detach().clone())
        self._rank = rank
        self._world_size = world_size

    @property
    def weight(self) -> Float[Tensor, "L E"]:
        """The learned entity rows of this rank's block."""
        return self._learned.weight

    @weight.setter
    def weight(self, rows: Float[Tensor, "L E"]) -> None:
        self._learned.weight = rows

    @property
    def relation(self) -> nn.Parameter:
        """See `LearnedRows.relation`."""
        return self._relation

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The learned relation rows and the encoder's parameters, by their names in checkpoints."""
        own = {f"encoder.{name}": parameter for name, parameter in self.encoder.named_parameters()}
        return {RELATION: self.relation, **own}

    def named_tensors(self) -> dict[str, Tensor]:
        """The same and the running statistics of batch norm."""
        own = {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        return {RELATION: self.relation, **own}

    def relation_parameters(self) -> list[str]:
        """The encoder's parameters that have rows for each relation, by the names of `named_parameters`."""
        return [f"encoder.{name}" for name in self.encoder.relation_parameters()]

    def end_step(self, good: Bool[Tensor, ""] | None) -> None:
        """Moves the running statistics of batch norm; see `KGEModel.end_step`."""
        for norm in batch_norms(self.encoder):
            norm.end_step(good)

    @torch.no_grad()
    def _show_relations(self, relation: Float64[Tensor, "R_ W"]) -> None:
        self._scorer.relation.copy_(relation)

    def _take_seen(self) -> Float64[Tensor, "R_ W"] | None:
        """This rank's share of the gradient of the relation rows that scoring sees; None: it has none.

        The scorer has the sum over all ranks, so one of them passes it on.
        """
        seen, self._scorer.relation.grad = self._scorer.relation.grad, None
        return seen if self._rank == 0 else None

    def _give(self, parameter: nn.Parameter, part: Tensor | None) -> None:
        """Gives a parameter the sum over ranks of the parts of its gradient; None is 0. Collective when partitioned."""
        part = torch.zeros_like(parameter) if part is None else part.contiguous()
        parameter.grad = add_over_ranks(part) if self._world_size > 1 else part


def not_begun() -> RuntimeError:
    """The error of a step that learns without `Encoding.begin_step`."""
    return RuntimeError("a model with an encoder learns only in a step that began with begin_step")
