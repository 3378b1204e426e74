"""The interface of encoders: layers that make rows from rows, and that the place of a row does not change."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from embedding.encoder.hop import Hop
from graph.batch import Batch
from graph.counter_random import combine, paired_uniform, random_uniform, stream
from graph.errors import InputError


@dataclass(frozen=True)
class EncoderSite:
    """The surroundings of an encoder that no option of it sets."""

    name: str
    """Of the model, such as "discriminator"; part of the keys of random numbers."""
    scoring: str
    """Of the class of the scoring function, for errors."""
    entity_width: int
    relation_width: int
    num_relations: int
    reciprocal: bool
    """Whether there is a relation row for each inverse relation r + R."""
    device: torch.device
    seed: int


class Encoder(nn.Module, ABC):
    """Makes the rows that scoring sees from the learned rows and the edges of train.

    Its parameters are float64, equal on all ranks, and a function of (seed, name, index) at first. What it makes of an
    entity depends on no rank.

    Args:
        layers: how often messages are sent: so many edges away from an entity, others still change its row.
        dropout: while training, sets each number that a layer makes to 0 with this probability, and divides the others
            by 1 - dropout. Which ones is a function of (seed, epoch, chunk, layer, entity, column).
        residual: adds to what a layer makes the rows that it got.
        fanout: for each layer, the first one first, how many edges into an entity a training step draws; the step then
            makes only the rows that it reads. None: it makes the rows of all entities, from all edges.
    Raises:
        InputError: an option out of range.
    """

    reads_relations: ClassVar[bool] = False
    """Whether messages depend on relation rows. If so, layers get a row for each inverse relation too."""

    def __init__(
        self, site: EncoderSite, *, layers: int, dropout: float, residual: bool, fanout: Sequence[int] | None
    ) -> None:
        super().__init__()
        if layers < 1:
            raise InputError(f"encoder.layers must be at least 1, got {layers}")
        if not 0 <= dropout < 1:
            raise InputError(f"encoder.dropout must be at least 0 and below 1, got {dropout}")
        self.site = site
        self.num_layers = layers
        self.dropout = dropout
        self.residual = residual
        self.fanout = _checked(fanout, layers)
        has_inverses = self.reads_relations and not site.reciprocal
        shape = site.num_relations, site.relation_width
        self.inverse = self.new_parameter("inverse", *shape) if has_inverses else None
        """Rows of inverse relations, if the layers need them and the scoring function has none."""

    def relation_levels(self, learned: Float64[Tensor, "R_ W"]) -> list[Float64[Tensor, "_ W"]]:
        """The relation rows that each layer reads, and at last those that scoring sees; differentiable.

        Args:
            learned: the learned relation rows.
        """
        levels = [learned if self.inverse is None else torch.cat([learned, self.inverse])]
        for number in range(self.num_layers):
            levels.append(self.relations_after(number, levels[-1]))
        return [*levels[:-1], levels[-1][: len(learned)]]

    def forward(
        self,
        rows: Float[Tensor, "K E"],
        relations: Sequence[Float64[Tensor, "_ W"]],
        hops: Sequence[Hop],
        batch: Batch | None,
    ) -> Float[Tensor, "L E"]:
        """The rows that the last layer makes; differentiable. Collective if the hops are, and so is its backward.

        Args:
            rows: the learned rows that the first layer gets.
            relations: what each layer reads, as `relation_levels` gives it.
            hops: what each layer sees of the graph.
            batch: see `make`.
        """
        for number, (read, hop) in enumerate(zip(relations, hops, strict=True)):
            rows = self.make(number, rows, read, hop, batch)
        return rows

    def make(
        self,
        number: int,
        rows: Float[Tensor, "K E"],
        relations: Float64[Tensor, "Q W"],
        hop: Hop,
        batch: Batch | None,
    ) -> Float[Tensor, "L E"]:
        """The rows after one layer, with dropout and residual.

        Args:
            batch: the global batch of a training step, whose first chunk is part of the key of dropout; None: there is
                no dropout.
        """
        made = self.layer(number, rows, relations, hop)
        if batch is not None and self.dropout > 0:
            made = made * self._kept(number, batch, hop.entity, made)
        return hop.own(rows) + made if self.residual else made

    @abstractmethod
    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """What a layer makes of the rows that it gets. It must call `hop.sources` equally often on each rank."""

    def relations_after(self, number: int, relations: Float64[Tensor, "Q W"]) -> Float64[Tensor, "Q W"]:
        """What a layer makes of the relation rows that it reads: the same, unless it overrides this."""
        return relations

    def new_parameter(self, name: str, *shape: int, fan: tuple[int, int] | None = None) -> nn.Parameter:
        """A parameter with uniform values of Xavier's variance, 2 / (inputs + outputs) (Glorot and Bengio 2010).

        Args:
            fan: inputs and outputs; None: the last two of `shape`.
        """
        inputs, outputs = shape[-2:] if fan is None else fan
        size = torch.Size(shape).numel()
        key = stream(f"{self.site.name} encoder {name}", self.site.seed)
        value = (2 * random_uniform(key, torch.arange(size)) - 1) * (6 / (inputs + outputs)) ** 0.5
        return nn.Parameter(value.view(shape).to(self.site.device))

    def new_bias(self) -> nn.Parameter:
        """A bias of rows, 0 at first."""
        return nn.Parameter(torch.zeros(self.site.entity_width, dtype=torch.float64, device=self.site.device))

    def _kept(
        self, number: int, batch: Batch, entity: Int64[Tensor, " L"], like: Float[Tensor, "L E"]
    ) -> Float[Tensor, "L E"]:
        """The factors of dropout."""
        key = stream(f"{self.site.name} encoder dropout", batch.seed, batch.epoch, number)
        kept = paired_uniform(key, combine(batch.chunk.min(), entity), like.shape[1]) >= self.dropout
        return kept.to(like.dtype) / (1 - self.dropout)


def _checked(fanout: Sequence[int] | None, layers: int) -> tuple[int, ...] | None:
    if fanout is None:
        return None
    numbers = list(fanout) if isinstance(fanout, Sequence) and not isinstance(fanout, str) else []
    if len(numbers) != layers or not all(type(each) is int and each >= 1 for each in numbers):
        raise InputError(
            f"encoder.fanout must be null, or a list of {layers} whole numbers of at least 1, one for each of "
            f"encoder.layers={layers}, got {fanout}"
        )
    return tuple(numbers)
