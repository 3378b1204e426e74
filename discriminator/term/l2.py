"""L2 of the rows that a positive uses (Yang et al., Embedding entities and relations, ICLR 2015, section 3.2)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.term.row_penalty import RowPenalty


class L2(RowPenalty):
    """Penalises the sum of squares of each row. See `RowPenalty` for the formula and the options."""

    name = "l2"

    def size(self, row: Float[Tensor, "B W"], components: int) -> Float[Tensor, " B"]:
        """The sum of squares of each row."""
        return row.square().sum(1)
