"""Negatives on the side of a relation that has one right answer (classes of relations: Bordes et al., NIPS 2013)."""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from generator.sampler import SamplerContext
from generator.uniform import UniformSampler
from graph.errors import InputError
from graph.statistics import Cardinality


class CardinalitySampler(UniformSampler):
    """Draws entities uniformly, and corrupts the head of 1-N relations and the tail of N-1 relations.

    This rule is ours; the classes 1-1, 1-N, N-1 and N-N are those of Bordes et al. (2013). The corrupted side has one
    right answer, so a random entity there is hardly ever a missing fact. In 1-1 relations both sides are corrupted
    equally often. N-N relations (three quarters of FB15k-237's triples) use the probabilities of `BernoulliSampler`.
    Entities are [C, N], shared by a chunk, and cost the same as uniform ones.

    With one_side_share=1 the model is never trained to rank the N side ("who was born here?"), but filtered ranking
    tests both sides: compare them in result.json. With trainer.sides=both this sampler is the same as uniform.

    Args:
        one_side_share: the share of positives of 1-N and N-1 relations that have the 1 side corrupted, from 0 to 1; the
            other positives of these relations have the N side corrupted.
        options: see `StaticSampler`.
    """

    def __init__(self, context: SamplerContext, *, one_side_share: float, **options: Any) -> None:
        super().__init__(context, **options)
        if not 0 <= one_side_share <= 1:
            raise InputError(f"generator.one_side_share must be from 0 to 1, got {one_side_share}")
        self.one_side_share = one_side_share

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """By class: 1/2 for 1-1, one_side_share for 1-N, 1 - one_side_share for N-1, Bernoulli's for N-N."""
        of_class = {
            Cardinality.ONE_TO_ONE: 0.5,
            Cardinality.ONE_TO_MANY: self.one_side_share,
            Cardinality.MANY_TO_ONE: 1 - self.one_side_share,
        }
        statistics = self.context.statistics
        bernoulli = statistics.head_probability.tolist()
        share = [of_class.get(each, other) for each, other in zip(statistics.cardinality, bernoulli, strict=True)]
        return torch.tensor(share, dtype=torch.float64)
