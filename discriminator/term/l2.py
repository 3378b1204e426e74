"""L2 of the rows that a positive uses (Yang et al., Embedding entities and relations, ICLR 2015, section 3.2)."""

from jaxtyping import Float
from torch import Tensor

from discriminator.term.term import Term
from embedding.model import KGEModel
from graph.batch import Batch
from graph.errors import InputError


class L2(Term):
    """weight times the sum of squares of a positive's head, relation and tail row.

    Args:
        weight: of a sum of squares, so that it does not depend on the batch or on the number of negatives.
    """

    def __init__(self, *, weight: float) -> None:
        if weight <= 0:
            raise InputError(f"terms.l2.weight must be positive, got {weight}")
        self.weight = weight

    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """See `Term`."""
        head, relation, tail = (row.square().sum(1) for row in model.triple_rows(batch))
        return self.weight * (head + relation + tail)
