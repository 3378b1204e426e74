"""An encoder without neighbours, to tell what message passing adds.

(Zhang et al., Rethinking the role of message passing in knowledge graph completion, ACL 2023, arXiv 2205.10652: layers
without messages often match those with them.)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.hop import Hop
from embedding.scoring.dense import affine


class Linear(Encoder):
    """Each layer multiplies a row by a matrix, adds a bias, and takes the hyperbolic tangent. Relations stay.

    Args:
        layers, dropout, residual, fanout, batch_norm, leave_out: see `Encoder`.
    """

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
        super().__init__(
            site,
            layers=layers,
            dropout=dropout,
            residual=residual,
            fanout=fanout,
            batch_norm=batch_norm,
            leave_out=leave_out,
        )
        width = site.entity_width
        weights = [self.new_parameter(f"weight {number}", width, width) for number in range(layers)]
        self.weight = nn.ParameterList(weights)
        self.bias = self.new_biases()

    def layer(
        self, number: int, rows: Float[Tensor, "K E"], relations: Float64[Tensor, "Q W"], hop: Hop
    ) -> Float[Tensor, "L E"]:
        """See `Encoder.layer`; uses no edge."""
        return affine(hop.own(rows), self.weight[number], self.bias_of(number))

    def activate(self, number: int, rows: Float[Tensor, "L E"]) -> Float[Tensor, "L E"]:
        """The hyperbolic tangent."""
        return torch.tanh(rows)
