"""Bernoulli negatives (Wang et al., Knowledge graph embedding by translating on hyperplanes, AAAI 2014)."""

from jaxtyping import Float64
from torch import Tensor

from generator.uniform import UniformSampler


class BernoulliSampler(UniformSampler):
    """Draws entities uniformly, and corrupts the head with probability tph / (tph + hpt) (Wang et al. 2014, TransH).

    For each relation, tph is the mean number of tails of a head, and hpt the mean number of heads of a tail. So the
    side with fewer true answers is corrupted more often, and fewer negatives are true. Entities are [C, N], shared by
    a chunk. Costs and options are those of `UniformSampler`.
    """

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """tph / (tph + hpt) of each relation."""
        return self.context.statistics.head_probability
