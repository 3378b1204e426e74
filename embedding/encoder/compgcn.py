"""CompGCN (Vashishth et al., Composition-based multi-relational graph convolutional networks, ICLR 2020).

arXiv 1911.03082.
"""

from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float, Float64, Inexact
from torch import Tensor, nn

from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.hop import Hop
from embedding.encoder.messages import sum_messages
from embedding.scoring.dense import affine
from graph.errors import InputError
from kernels.messages import CORRELATION, DIFFERENCE, PRODUCT


class Composition(StrEnum):
    """How an entity row x and a relation row r become one row."""

    SUB = "sub"
    """x - r."""
    MULT = "mult"
    """x * r, number by number."""
    CORR = "corr"
    """Circular correlation: number k is the sum over i of x[i] * r[(i + k) mod width]."""


_MESSAGES = {Composition.SUB: DIFFERENCE, Composition.MULT: PRODUCT, Composition.CORR: CORRELATION}


class CompGCN(Encoder):
    """Sends compositions of the neighbour's row and the edge's relation row; relation rows change from layer to layer.

    A layer makes tanh((into + out + loop) / 3 + bias); with batch norm, tanh(norm((into + out + loop) / 3)). `into` is
    the sum over edges (head, r, tail) into the entity as tail of the composition of head and r, each divided by
    sqrt(facts of the head as head * facts of the tail as tail), multiplied by a matrix. `out` is the same of inverse
    edges, with another matrix. `loop` is the composition of the row itself with a relation row of its own, multiplied
    by a third matrix; with batch norm and `sub` it is the row times this matrix. Relation rows are multiplied by a
    fourth. Composition and sums are linear, so the sum is multiplied by a matrix, not each message. Of sampled edges,
    messages are also divided by the probability of being drawn, so `into` and `out` have the right mean; facts are all
    counted.

    Args:
        options: see `Encoder`.
        composition: sub, mult or corr; see `Composition`.
    Raises:
        InputError: an option out of range, or a scoring function whose entity and relation rows differ in width.
    """

    reads_relations = True
    weight_in: nn.ParameterList
    weight_out: nn.ParameterList
    weight_loop: nn.ParameterList
    weight_relation: nn.ParameterList

    def __init__(
        self,
        site: EncoderSite,
        *,
        composition: str,
        **options: Any,
    ) -> None:
        super().__init__(site, **options)
        if composition not in list(Composition):
            raise InputError(f"encoder.composition must be one of {', '.join(Composition)}, got {composition!r}")
        width = site.entity_width
        if width != site.relation_width:
            raise InputError(
                f"encoder=compgcn composes rows of equal width, but {site.scoring} has {width} numbers for an entity "
                f"and {site.relation_width} for a relation; take encoder=rgcn or encoder=attention"
            )
        self.composition = Composition(composition)
        for name in ("weight_in", "weight_out", "weight_loop", "weight_relation"):
            matrices = [self.new_parameter(f"{name} {number}", width, width) for number in range(self.num_layers)]
            setattr(self, name, nn.ParameterList(matrices))
        # Batch norm takes away what is the same for all entities, such as the row that `sub` takes from each.
        has_loop = not (self.norms is not None and self.composition == Composition.SUB)
        loops = [self.new_parameter(f"loop {number}", 1, width) for number in range(self.num_layers if has_loop else 0)]
        self.loop = nn.ParameterList(loops)
        self.bias = self.new_biases()

    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """See `Encoder.layer`."""
        sums = self._sums(rows, relations, hop)
        loop = self._with_loop(number, hop.own(rows))
        # Matrices are divided by 3, for they have fewer numbers than rows.
        of_sums = affine(sums, torch.cat([self.weight_in[number], self.weight_out[number]]) / 3, None)
        return affine(loop, self.weight_loop[number] / 3, self.bias_of(number)) + of_sums

    def activate(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """The hyperbolic tangent."""
        return torch.tanh(rows)

    def relations_after(self, number: int, relations: Float64[Tensor, "Q W"]) -> Float64[Tensor, "Q W"]:
        """The rows, times a matrix."""
        return relations @ self.weight_relation[number]

    def _with_loop(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """The composition of each row with the layer's own relation row."""
        if not self.loop:
            return rows
        own, of_loop = self._forth(rows), self._forth(self.loop[number])
        return self._back(_MESSAGES[self.composition].make(own, of_loop.to(own.dtype)), rows)

    def _sums(self, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q E"], hop: Hop) -> Float[Tensor, "L 2*E"]:
        """Beside each other: the sum of the messages of edges from heads, and of those from tails."""
        edges, count = hop.edges, len(hop.entity)
        sources = self._forth(hop.sources(rows))
        from_tail = (edges.relation >= self.site.num_relations).long()
        total = sum_messages(
            edges,
            sources,
            self._forth(relations),
            edges.symmetric[:, None],
            _MESSAGES[self.composition],
            into=2 * edges.destination + from_tail,
            num_sums=2 * count,
            width=sources.shape[1],
        )
        return self._back(total, rows).view(count, 2 * rows.shape[1])

    # Correlation is a product of Fourier transforms. Sums of transforms are transforms of sums, so a row is transformed
    # once for each layer, not once for each edge. MKL refuses to transform no rows, which a rank may have; what is made
    # of them must still be a function of them, or the other ranks would wait for this one in backward.

    def _forth(self, rows: Float[Tensor, "K E"]) -> Inexact[Tensor, "K F"]:
        if self.composition != Composition.CORR:
            return rows
        if len(rows):
            return torch.fft.rfft(rows)
        part = rows[:, : rows.shape[1] // 2 + 1]
        return torch.complex(part, part)

    def _back(self, rows: Inexact[Tensor, "K F"], like: Float[Tensor, "_ E"]) -> Float[Tensor, "K E"]:
        if self.composition != Composition.CORR:
            return rows
        width = like.shape[1]
        return torch.fft.irfft(rows, width) if len(rows) else torch.cat([rows.real, rows.imag], dim=1)[:, :width]
