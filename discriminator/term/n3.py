"""The nuclear 3-norm (Lacroix et al., Canonical tensor decomposition for knowledge base completion, ICML 2018)."""

import torch
from jaxtyping import Float
from torch import Tensor

from discriminator.term.row_penalty import RowPenalty


class N3(RowPenalty):
    """Penalises the sum of |x|^3 over the numbers x of each row. See `RowPenalty` for the formula and the options.

    For complex numbers and quaternions, |x| is the modulus. Angles (RotatE's relations) are taken as real numbers. N3
    is made for bilinear scores (DistMult, ComplEx).
    """

    name = "n3"

    def size(self, row: Float[Tensor, "B W"], components: int) -> Float[Tensor, " B"]:
        """The sum of the cubed moduli of each row."""
        square = torch.stack(row.chunk(components, dim=1)).square().sum(0)
        return square.pow(1.5).sum(1)
