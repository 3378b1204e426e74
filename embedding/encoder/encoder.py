"""The interface of encoders: layers that make rows from rows, and that the place of a row does not change."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from embedding.encoder.facts import LeaveOut
from embedding.encoder.hop import Hop
from embedding.moments import Moments
from embedding.scoring.batch_norm import BatchNorm
from graph.batch import Batch
from graph.counter_random import combine, paired_at_least, random_uniform, stream
from graph.errors import InputError
from graph.passed_on import PassesOptionsOn


@dataclass(frozen=True)
class EncoderSite:
    """The surroundings of an encoder that no option of it sets."""

    name: str
    """Of the model, such as "discriminator"; part of the keys of random numbers."""
    scoring: str
    """Of the class of the scoring function, for errors."""
    entity_width: int
    """Numbers in an entity's vector: biases, which may come after it in a row, stay as they were learned."""
    relation_width: int
    num_relations: int
    reciprocal: bool
    """Whether there is a relation row for each inverse relation r + R."""
    device: torch.device
    seed: int


class Encoder(PassesOptionsOn, nn.Module, ABC):
    """Makes the rows that scoring sees from the learned rows and the edges of train, without their biases.

    Its parameters are float64, equal on all ranks, and a function of (seed, name, index) at first. What it makes of an
    entity depends on no rank. A constructor passes the options of all encoders on to this class as `**options`.

    Args:
        layers: how often messages are sent: so many edges away from an entity, others still change its row.
        dropout: while training, sets each number that a layer makes to 0 with this probability, and divides the others
            by 1 - dropout. Which ones is a function of (seed, epoch, chunk, layer, entity, column).
        residual: adds to what a layer makes the rows that it got.
        fanout: for each layer, the first one first, how many edges into an entity a training step draws; the step then
            makes only the rows that it reads. None: it makes the rows of all entities, from all edges.
        batch_norm: normalises each column of what a layer makes over all entities, before the nonlinearity; see
            `BatchNorm`. Validation, export and answers use running statistics.
        leave_out: which facts are no edges in a training step; see `LeaveOut`.
    Raises:
        InputError: an option out of range, or batch norm with a fan-out, whose steps do not make the rows of all
            entities.
    """

    reads_relations: ClassVar[bool] = False
    """Whether messages depend on relation rows. If so, layers get a row for each inverse relation too."""

    of_relations: ClassVar[tuple[str, ...]] = ("inverse",)
    """The parameters, or lists of parameters, that have a row for each relation, and then for each inverse relation."""
    bias: nn.ParameterList
    """As `new_biases` makes them."""

    def __init__(
        self,
        site: EncoderSite,
        *,
        layers: int,
        dropout: float,
        residual: bool,
        fanout: Sequence[int] | None,
        batch_norm: bool,
        leave_out: str,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise InputError(f"encoder.layers must be at least 1, got {layers}")
        if not 0 <= dropout < 1:
            raise InputError(f"encoder.dropout must be at least 0 and below 1, got {dropout}")
        if leave_out not in list(LeaveOut):
            raise InputError(f"encoder.leave_out must be one of {', '.join(LeaveOut)}, got {leave_out!r}")
        self.leave_out = LeaveOut(leave_out)
        self.site = site
        self.num_layers = layers
        self.dropout = dropout
        self.residual = residual
        self.fanout = _checked(fanout, layers)
        if batch_norm and self.fanout is not None:
            raise InputError(
                f"encoder.batch_norm must be false with a fan-out, got true with encoder.fanout={list(self.fanout)}: "
                "it takes means over the rows of all entities, and a step with a fan-out makes only those that it reads"
            )
        self.norms = nn.ModuleList([self._new_norm() for _ in range(layers)]) if batch_norm else None
        """The batch norm of each layer."""
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

    def relation_parameters(self) -> list[str]:
        """The names of the parameters whose rows belong to relations: row i * R + r to relation r."""
        return [name for name, _ in self.named_parameters() if name.split(".")[0] in self.of_relations]

    def forward(
        self,
        rows: Float[Tensor, "K E"],
        relations: Sequence[Float64[Tensor, "_ W"]],
        hops: Sequence[Hop],
        batch: Batch | None,
        moments: Callable[[Tensor], Moments] | None = None,
    ) -> Float[Tensor, "L E"]:
        """The rows that the last layer makes; differentiable. Collective if the hops are, and so is its backward.

        Args:
            rows: the learned rows that the first layer gets.
            relations: what each layer reads, as `relation_levels` gives it.
            hops: what each layer sees of the graph.
            batch, moments: see `make`.
        """
        for number, (read, hop) in enumerate(zip(relations, hops, strict=True)):
            rows = self.make(number, rows, read, hop, batch, moments)
        return rows

    def make(
        self,
        number: int,
        rows: Float[Tensor, "K E"],
        relations: Float64[Tensor, "Q W"],
        hop: Hop,
        batch: Batch | None,
        moments: Callable[[Tensor], Moments] | None = None,
    ) -> Float[Tensor, "L E"]:
        """The rows after one layer: with batch norm, nonlinearity, dropout and residual, in this order. Biases stay.

        Args:
            batch: the global batch of a training step, whose first chunk is part of the key of dropout; None: there is
                no dropout.
            moments: of a training step: mean and variance over the rows of all entities, from this rank's [L, 1, E];
                None: batch norm uses running statistics.
        """
        width = self.site.entity_width
        if rows.shape[1] == width:
            return self._vectors(number, rows, relations, hop, batch, moments)
        made = self._vectors(number, rows[:, :width].contiguous(), relations, hop, batch, moments)
        return torch.cat([made, hop.own(rows)[:, width:]], dim=1)

    def _vectors(
        self,
        number: int,
        rows: Float[Tensor, "K E"],
        relations: Float64[Tensor, "Q W"],
        hop: Hop,
        batch: Batch | None,
        moments: Callable[[Tensor], Moments] | None,
    ) -> Float[Tensor, "L E"]:
        made = self.layer(number, rows, relations, hop)
        if self.norms is not None:
            made = self.norms[number](made[:, None], moments)[:, 0]
        made = self.activate(number, made)
        if batch is not None and self.dropout > 0:
            made = made * self._kept(number, batch, hop.entity, made)
        return hop.own(rows) + made if self.residual else made

    @abstractmethod
    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """What a layer makes of the rows that it gets, before batch norm and nonlinearity.

        It must call `hop.sources` equally often on each rank.
        """

    @abstractmethod
    def activate(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """A layer's nonlinearity."""

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

    def new_biases(self) -> nn.ParameterList:
        """A bias of rows for each layer, 0 at first. None with batch norm: its mean takes them away again."""
        return nn.ParameterList([self._column_values(0.0) for _ in range(0 if self.norms else self.num_layers)])

    def bias_of(self, number: int) -> nn.Parameter | None:
        """The bias of a layer, if it has one."""
        return self.bias[number] if self.bias else None

    def _new_norm(self) -> BatchNorm:
        return BatchNorm(self._column_values(1.0), self._column_values(0.0))

    def _column_values(self, value: float) -> nn.Parameter:
        shape = (self.site.entity_width,)
        return nn.Parameter(torch.full(shape, value, dtype=torch.float64, device=self.site.device))

    def _kept(
        self, number: int, batch: Batch, entity: Int64[Tensor, " L"], like: Float[Tensor, "L E"]
    ) -> Float[Tensor, "L E"]:
        """The factors of dropout."""
        key = stream(f"{self.site.name} encoder dropout", batch.seed, batch.epoch, number)
        kept = paired_at_least(key, combine(batch.chunk.min(), entity), like.shape[1], self.dropout)
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
