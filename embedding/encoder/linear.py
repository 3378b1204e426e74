"""An encoder without neighbours, to tell what message passing adds.

(Zhang et al., Rethinking the role of message passing in knowledge graph completion, ACL 2023, arXiv 2205.10652: layers
without messages often match those with them.)
"""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.hop import Hop
from embedding.scoring.dense import affine


class Linear(Encoder):
    """Each layer multiplies a row by a matrix, adds a bias, and takes the hyperbolic tangent. Relations stay.

    Args:
        options: see `Encoder`.
    """

    def __init__(self, site: EncoderSite, **options: Any) -> None:
        super().__init__(site, **options)
        width = site.entity_width
        weights = [self.new_parameter(f"weight {number}", width, width) for number in range(self.num_layers)]
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
