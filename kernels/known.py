"""Which negatives are known facts (known.cpp)."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from kernels.library import call


def mask_known(
    query: Int64[Tensor, " B"],
    offset: Int64[Tensor, " Q_plus_1"],
    answer: Int64[Tensor, " T"],
    entity: Int64[Tensor, "C N"],
) -> Bool[Tensor, "B N"]:
    """Whether each negative is a known answer of the query whose chunk it belongs to.

    Args:
        query: the query of each positive, or -1 where nothing is known; its answers are
            answer[offset[query]:offset[query + 1]], ascending.
        entity: negatives of each chunk of positives.
    """
    chunks, negatives = entity.shape
    known = torch.empty((len(query), negatives), dtype=torch.bool)
    sizes = chunks, len(query) // max(chunks, 1), negatives, torch.get_num_threads()
    call("mask_known", query, offset, answer, entity, known, *sizes)
    return known
