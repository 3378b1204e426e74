"""How far an estimate from noise is off (Yang et al., Understanding negative sampling in graph representation learning,
KDD 2020, arXiv 2005.09863, theorem 2)."""

from jaxtyping import Float64
from torch import Tensor


def nce_squared_error(
    data: Float64[Tensor, "*s"], noise: Float64[Tensor, "*s"], negatives: int, positives: int
) -> Float64[Tensor, "*s"]:
    """The expected square of the error of one score that is learned from positives against sampled negatives.

    With a free score for each answer u of one query, T positives u ~ p_d and k T negatives u ~ p_n, the learned score
    is log(a_u / b_u) of the counts; its error around log(p_d / (k p_n)) has, by the delta method, the mean square
    (1 / p_d - 1 + 1 / (k p_n) - 1 / k) / T. It holds where T p_d and k T p_n are large, p_n does not follow the
    model, and scores share no parameters.

    Args:
        data: p_d of the answer.
        noise: p_n of the answer, positive.
        negatives: k, for each positive.
        positives: T.
    """
    return (1 / data - 1 + 1 / (negatives * noise) - 1 / negatives) / positives
