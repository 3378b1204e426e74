"""Bernoulli negatives (Wang et al., Knowledge graph embedding by translating on hyperplanes, AAAI 2014)."""

from jaxtyping import Float64
from torch import Tensor

from generator.uniform import UniformSampler


class BernoulliSampler(UniformSampler):
    """Uniform entities, but the head is corrupted with probability tph / (tph + hpt) of its relation.

    tph is the mean number of tails a head has, hpt of heads a tail has: the side with fewer true answers is corrupted
    more often, so that fewer negatives are true.
    """

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """See the class."""
        return self.context.statistics.head_probability
