"""The error of scores learned from sampled negatives (Yang et al., Understanding negative sampling in graph
representation learning, KDD 2020, arXiv 2005.09863, theorem 2)."""

from jaxtyping import Float64
from torch import Tensor


def nce_squared_error(
    data: Float64[Tensor, "*s"], noise: Float64[Tensor, "*s"], negatives: int, positives: int
) -> Float64[Tensor, "*s"]:
    """The expected squared error of one score that is learned from positives and sampled negatives.

    Each answer u of a query has its own score, and there are T positives from p_d and k T negatives from p_n. Then the
    learned score is log(a_u / b_u), where a_u and b_u count u among them. By the delta method its squared error around
    log(p_d / (k p_n)) has the mean (1 / p_d - 1 + 1 / (k p_n) - 1 / k) / T. This needs large T p_d and k T p_n, a p_n
    that does not depend on the model, and scores that share no parameters.

    Args:
        data: p_d, the probability of the answer among positives.
        noise: p_n, the probability of the answer among negatives; above 0.
        negatives: k, the number of negatives of a positive.
        positives: T, the number of positives.
    """
    return (1 / data - 1 + 1 / (negatives * noise) - 1 / negatives) / positives
