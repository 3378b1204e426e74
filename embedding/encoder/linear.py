"""An encoder without neighbours, to tell what message passing adds.

(Zhang et al., Rethinking the role of message passing in knowledge graph completion, ACL 2023, arXiv 2205.10652: layers
without messages often match those with them.)
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.encoder.edges import Edges
from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.scoring.dense import affine


class Linear(Encoder):
    """Each layer multiplies a row by a matrix, adds a bias, and takes the hyperbolic tangent. Relations stay.

    Args:
        layers, dropout, residual: see `Encoder`.
    """

    def __init__(self, site: EncoderSite, *, layers: int, dropout: float, residual: bool) -> None:
        super().__init__(site, layers=layers, dropout=dropout, residual=residual)
        width = site.entity_width
        weights = [self.new_parameter(f"weight {number}", width, width) for number in range(layers)]
        self.weight = nn.ParameterList(weights)
        self.bias = nn.ParameterList([self.new_bias() for _ in range(layers)])

    def layer(
        self, number: int, rows: Float[Tensor, "L E"], relations: Float64[Tensor, "Q W"], edges: Edges
    ) -> tuple[Float[Tensor, "L E"], Float64[Tensor, "Q W"]]:
        """See `Encoder.layer`; uses no edge."""
        return torch.tanh(affine(rows, self.weight[number], self.bias[number])), relations
