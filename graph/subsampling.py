"""Subsampling weights: positives with frequent queries weigh less in the loss (Sun et al., RotatE, ICLR 2019).

As in word2vec (Mikolov et al., NIPS 2013), frequent queries would otherwise dominate rare ones.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_START = 3
"""Added to each count, so that a pair that occurs once does not weigh much more than one that occurs twice."""


def subsampling_weights(train: Int64[Tensor, "T 3"], num_relations: int) -> Float64[Tensor, " T"]:
    """1 / sqrt(count(h, r) + 3 + count(r, t) + 3) of each train triple (h, r, t); counts are over train."""
    head, relation, tail = train.unbind(1)
    total = torch.full((len(train),), 2.0 * _START, dtype=torch.float64)
    for entity in (head, tail):
        _, pair, count = torch.unique(entity * num_relations + relation, return_inverse=True, return_counts=True)
        total += count[pair]
    return total.rsqrt()
