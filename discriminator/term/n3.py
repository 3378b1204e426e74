"""The nuclear 3-norm (Lacroix et al., Canonical tensor decomposition for knowledge base completion, ICML 2018)."""

import torch
from jaxtyping import Float
from torch import Tensor

from discriminator.term.term import Term
from embedding.model import KGEModel
from graph.batch import Batch
from graph.errors import InputError


class N3(Term):
    """weight times the sum of |x|^3 over the numbers x of a positive's head, relation and tail row.

    Of complex numbers and quaternions it is the modulus that is cubed. Made for bilinear scores (DistMult, ComplEx);
    numbers that are angles (RotatE's relations) count as they are.

    Args:
        weight: of a sum of cubes, so that it does not depend on the batch or on the number of negatives.
    """

    def __init__(self, *, weight: float) -> None:
        if weight <= 0:
            raise InputError(f"terms.n3.weight must be positive, got {weight}")
        self.weight = weight

    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """See `Term`."""
        of_entity, of_relation = model.scoring.entity_components, model.scoring.relation_components
        head, relation, tail = model.triple_rows(batch)
        of_entities = _sum_of_cubes(head, of_entity) + _sum_of_cubes(tail, of_entity)
        return self.weight * (of_entities + _sum_of_cubes(relation, of_relation))


def _sum_of_cubes(row: Float[Tensor, "B W"], components: int) -> Float[Tensor, " B"]:
    square = torch.stack(row.chunk(components, dim=1)).square().sum(0)
    return square.pow(1.5).sum(1)
