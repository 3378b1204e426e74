"""Subsampling weights: positives with frequent queries weigh less in the loss (Sun et al., RotatE, ICLR 2019).

As in word2vec (Mikolov et al., NIPS 2013), frequent queries would otherwise dominate rare ones.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.known import KnownTriples

_START = 3
"""Added to each count, so that a pair that occurs once does not weigh much more than one that occurs twice."""


def subsampling_weights(
    known: KnownTriples, head: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], tail: Int64[Tensor, " B"]
) -> Float64[Tensor, " B"]:
    """1 / sqrt(count(h, r) + 3 + count(r, t) + 3) of train triples (h, r, t); counts are over the distinct ones.

    Args:
        known: the facts of train.
    """
    count = known.tails.count(head, relation) + known.heads.count(tail, relation)
    return torch.rsqrt((count + 2 * _START).double())
