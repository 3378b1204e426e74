"""R-GCN (Schlichtkrull et al., Modeling relational data with graph convolutional networks, ESWC 2018).

arXiv 1703.06103.
"""

from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.hop import Hop
from embedding.encoder.messages import sum_messages
from embedding.scoring.dense import affine
from graph.errors import InputError
from kernels.messages import BASES, Message


class Decomposition(StrEnum):
    """How the matrices of the relations share their numbers."""

    BASIS = "basis"
    """Each is a weighted sum of a few matrices that all relations share."""
    BLOCK = "block"
    """Each has square blocks on its diagonal, and zeros elsewhere."""


class Normalisation(StrEnum):
    """What the messages into an entity are divided by."""

    RELATION = "relation"
    """The number of edges into the entity that have the same relation."""
    ENTITY = "entity"
    """The number of edges into the entity."""


class RGCN(Encoder):
    """Multiplies a neighbour's row by the matrix of the edge's relation; inverse relations have matrices of their own.

    A layer makes the sum of these messages, each divided by a number of edges, plus the entity's own row multiplied by
    another matrix, plus a bias; then, but for the last layer, negative numbers become 0. Relation rows stay.

    Of sampled edges, messages are divided by the number of all edges, not of those that were drawn, and by the
    probability of being drawn. So the sum of the relations' means is right on average, although a relation with few
    edges is often not drawn at all.

    Args:
        options: see `Encoder`.
        decomposition: basis or block; see `Decomposition`.
        parts: the number of bases, or of blocks. A basis takes an entity row of memory for each entity in a step.
        normalisation: relation or entity; see `Normalisation`.
    Raises:
        InputError: an option out of range, or blocks that do not divide the width of entity rows.
    """

    of_relations = ("inverse", "of_relation")

    def __init__(
        self,
        site: EncoderSite,
        *,
        decomposition: str,
        parts: int,
        normalisation: str,
        **options: Any,
    ) -> None:
        super().__init__(site, **options)
        for key, choice, choices in (
            ("decomposition", decomposition, Decomposition),
            ("normalisation", normalisation, Normalisation),
        ):
            if choice not in list(choices):
                raise InputError(f"encoder.{key} must be one of {', '.join(choices)}, got {choice!r}")
        width = site.entity_width
        if parts < 1:
            raise InputError(f"encoder.parts must be at least 1, got {parts}")
        if decomposition == Decomposition.BLOCK and width % parts:
            raise InputError(
                f"encoder.parts must divide the {width} numbers of an entity row with decomposition=block, got {parts}"
            )
        self.parts = parts
        self.decomposition = Decomposition(decomposition)
        self.normalisation = Normalisation(normalisation)
        numbers = range(self.num_layers)
        self.loop = nn.ParameterList([self.new_parameter(f"loop {number}", width, width) for number in numbers])
        self.bias = self.new_biases()
        self.of_relation = nn.ParameterList([self._new_of_relation(number) for number in numbers])
        """For each relation and inverse relation: the weights of the bases, or the numbers of the blocks."""
        bases = numbers if self.decomposition == Decomposition.BASIS else ()
        shape, fan = (parts * width, width), (width, width)
        self.bases = nn.ParameterList([self.new_parameter(f"bases {number}", *shape, fan=fan) for number in bases])

    def _new_of_relation(self, number: int) -> nn.Parameter:
        if self.decomposition == Decomposition.BASIS:
            return self.new_parameter(f"relation {number}", 2 * self.site.num_relations, self.parts)
        size = self.site.entity_width // self.parts
        shape = 2 * self.site.num_relations, self.parts * size**2
        return self.new_parameter(f"relation {number}", *shape, fan=(size, size))

    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """See `Encoder.layer`."""
        edges, own = hop.edges, hop.own(rows)
        # The sums are multiplied by the bases, not each message.
        of_basis = self.decomposition == Decomposition.BASIS
        total = sum_messages(
            edges,
            hop.sources(rows),
            self.of_relation[number],
            (edges.per_relation if self.normalisation == Normalisation.RELATION else edges.per_entity)[:, None],
            BASES if of_basis else Message(None, self._multiplied),
            into=edges.destination,
            num_sums=len(own),
            width=rows.shape[1] * (self.parts if of_basis else 1),
        )
        made = affine(own, self.loop[number], self.bias_of(number))
        return made + (affine(total, self.bases[number], None) if of_basis else total)

    def activate(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """Sets negative numbers to 0, but for the last layer."""
        return rows if number == self.num_layers - 1 else torch.relu(rows)

    def _multiplied(self, rows: Float[Tensor, "n E"], blocks: Float[Tensor, "n PSS"]) -> Float[Tensor, "n E"]:
        size = rows.shape[1] // self.parts
        matrix = blocks.view(len(rows), self.parts, size, size)
        return (rows.view(len(rows), self.parts, size, 1) * matrix).sum(2).flatten(1)
