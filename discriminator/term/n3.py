"""The nuclear 3-norm (Lacroix et al., Canonical tensor decomposition for knowledge base completion, ICML 2018)."""

import torch
from jaxtyping import Float
from torch import Tensor

from discriminator.term.row_penalty import RowPenalty


class N3(RowPenalty):
    """Of sums of |x|^3 over the numbers x of a row: see `RowPenalty`, which has the options.

    Of complex numbers and quaternions it is the modulus that is cubed. Made for bilinear scores (DistMult, ComplEx);
    numbers that are angles (RotatE's relations) count as they are.
    """

    name = "n3"

    def size(self, row: Float[Tensor, "B W"], components: int) -> Float[Tensor, " B"]:
        """The sum of cubes of moduli."""
        square = torch.stack(row.chunk(components, dim=1)).square().sum(0)
        return square.pow(1.5).sum(1)
