"""Negatives for the side of a relation that has one right answer (classes as in Bordes et al., NIPS 2013)."""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.uniform import UniformSampler
from graph.errors import InputError
from graph.statistics import Cardinality


class CardinalitySampler(UniformSampler):
    """Uniform entities that take the place of the head of 1-N relations and of the tail of N-1 relations.

    There a random entity is hardly ever a missing fact. Of 1-1 relations either side is corrupted, of N-N relations
    the side that Bernoulli negatives would choose; on FB15k-237 that is three quarters of the triples.

    What it costs: at `one_side_share` 1 the model is never trained to rank the N side ("who was born here?"), while
    filtered ranking asks about both: compare the two sides in result.json. With `trainer.sides=both` there is nothing
    to choose.

    Args:
        one_side_share: the share of 1-N and N-1 positives whose 1 side is corrupted; of the others it is the N side.
        options: see `StaticSampler`.
    """

    def __init__(self, context: SamplerContext, *, one_side_share: float, **options: Any) -> None:
        super().__init__(context, **options)
        if not 0 <= one_side_share <= 1:
            raise InputError(f"generator.one_side_share must be from 0 to 1, got {one_side_share}")
        self.one_side_share = one_side_share

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """See the class."""
        of_class = {
            Cardinality.ONE_TO_ONE: 0.5,
            Cardinality.ONE_TO_MANY: self.one_side_share,
            Cardinality.MANY_TO_ONE: 1 - self.one_side_share,
        }
        statistics = self.context.statistics
        bernoulli = statistics.head_probability.tolist()
        share = [of_class.get(each, other) for each, other in zip(statistics.cardinality, bernoulli, strict=True)]
        return torch.tensor(share, dtype=torch.float64)
