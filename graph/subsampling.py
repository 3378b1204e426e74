"""Subsampling weights: what a positive counts, less for one whose query is frequent (Sun et al., RotatE, ICLR 2019).

As in word2vec (Mikolov et al., NIPS 2013), frequent things would else drown rare ones.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_START = 3
"""Added to each count, so that a pair that occurs once is not many times as heavy as one that occurs twice."""


def subsampling_weights(train: Int64[Tensor, "T 3"], num_relations: int) -> Float64[Tensor, " T"]:
    """1 / sqrt(count(h, r) + count(r, t)) of each triple, counts over train and each raised by 3."""
    head, relation, tail = train.unbind(1)
    total = torch.full((len(train),), 2.0 * _START, dtype=torch.float64)
    for entity in (head, tail):
        _, pair, count = torch.unique(entity * num_relations + relation, return_inverse=True, return_counts=True)
        total += count[pair]
    return total.rsqrt()
