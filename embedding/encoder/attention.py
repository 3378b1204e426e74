"""Attention over neighbours that knows the relation of each edge.

After GAT (Velickovic et al., Graph attention networks, ICLR 2018, arXiv 1710.10903). Messages and their weights
depend on relation rows, as in KBGAT (Nathani et al., Learning attention-based embeddings for relation prediction in
knowledge graphs, ACL 2019, arXiv 1906.01195).
"""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.encoder.edges import Edges
from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.hop import Hop
from embedding.encoder.messages import sum_messages
from embedding.scoring.dense import affine
from graph.errors import InputError
from kernels.messages import SUM

_SLOPE = 0.2
"""Of the leaky ReLU on the weights' logits, as in GAT."""


class Attention(Encoder):
    """Sums messages with weights that add up to 1 over the edges into an entity.

    An edge's message is a matrix times the neighbour's row plus a matrix times the relation's row. Each of the `heads`
    equal parts of it has its own weight: the softmax, over the edges into the entity, of a leaky ReLU of a linear
    function of the entity's row, the neighbour's row and the relation's row. A layer makes this sum, plus the entity's
    own row multiplied by another matrix, plus a bias; then, but for the last layer, ELU. Relation rows stay.

    Of sampled edges, the weights are the softmax over those that were drawn: a message is divided by the sum over the
    drawn edges, not by that over all, which would need the rows of all neighbours. Both sums of this ratio estimate
    theirs over all edges up to the same factor, so the result is near that of all edges; its mean is not exactly that.

    Args:
        options: see `Encoder`.
        heads: parts of a message; they divide the width of entity rows.
    Raises:
        InputError: an option out of range.
    """

    reads_relations = True

    def __init__(
        self,
        site: EncoderSite,
        *,
        heads: int,
        **options: Any,
    ) -> None:
        super().__init__(site, **options)
        width, of_relation = site.entity_width, site.relation_width
        if heads < 1 or width % heads:
            raise InputError(f"encoder.heads must divide the {width} numbers of an entity row, got {heads}")
        self.heads = heads
        shapes = {
            "value": (width, width),
            "relation_value": (of_relation, width),
            "loop": (width, width),
            "own_logit": (width, heads),
            "neighbour_logit": (width, heads),
            "relation_logit": (of_relation, heads),
        }
        for name, shape in shapes.items():
            matrices = [self.new_parameter(f"{name} {number}", *shape) for number in range(self.num_layers)]
            setattr(self, name, nn.ParameterList(matrices))
        self.bias = self.new_biases()

    value: nn.ParameterList
    relation_value: nn.ParameterList
    loop: nn.ParameterList
    own_logit: nn.ParameterList
    neighbour_logit: nn.ParameterList
    relation_logit: nn.ParameterList

    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """See `Encoder.layer`."""
        width, edges, own = rows.shape[1], hop.edges, hop.own(rows)
        # One exchange for both: what a neighbour sends, and its part of the logits.
        sent = affine(rows, torch.cat([self.value[number], self.neighbour_logit[number]], dim=1), None)
        value, logit = hop.sources(sent).split([width, self.heads], dim=1)
        logits = (
            affine(own, self.own_logit[number], None)[edges.destination]
            + logit[edges.source]
            + (relations @ self.relation_logit[number]).to(rows.dtype)[edges.relation]
        )
        total = sum_messages(
            edges,
            value.contiguous(),
            relations @ self.relation_value[number],
            _softmax(nn.functional.leaky_relu(logits, _SLOPE), edges, len(own)),
            SUM,
            into=edges.destination,
            num_sums=len(own),
            width=width,
        )
        return total + affine(own, self.loop[number], self.bias_of(number))

    def activate(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """ELU, but for the last layer."""
        return rows if number == self.num_layers - 1 else nn.functional.elu(rows)


def _softmax(logit: Float[Tensor, "M H"], edges: Edges, num_rows: int) -> Float[Tensor, "M H"]:
    """The softmax over the edges into each entity."""
    into = edges.destination
    largest = logit.new_full((num_rows, logit.shape[1]), -torch.inf)
    largest = largest.scatter_reduce_(0, into[:, None].expand_as(logit), logit.detach(), "amax")
    part = (logit - largest[into]).exp()
    return part / torch.zeros_like(largest).index_add(0, into, part)[into]
