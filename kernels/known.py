"""Known answers in compressed rows: a mask of the negatives among them (known.cpp), and a list of all of them."""

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call
from kernels.shapes import expect_int32, per_chunk


def mask_known(
    query: Int64[Tensor, " B"],
    offset: Int32[Tensor, " Q_plus_1"] | Int64[Tensor, " Q_plus_1"],
    answer: Int32[Tensor, " T"],
    entity: Int64[Tensor, "C N"],
) -> Bool[Tensor, "B N"]:
    """Whether each negative is a known answer of the query whose chunk it belongs to.

    Args:
        query: the query number of each positive, -1 if it has no known answer. Its answers are
            answer[offset[query]:offset[query + 1]], ascending.
        entity: the negatives of each of C equal chunks of positives.
    """
    chunks, negatives = entity.shape
    expect_int32("negatives of a chunk", negatives)
    positives = per_chunk(len(query), chunks)
    if usable_on_gpu(entity):
        import kernels.gpu.known as gpu

        return gpu.mask_known(query, offset, answer, entity)
    known = torch.empty((len(query), negatives), dtype=torch.bool)
    sizes = chunks, positives, negatives, torch.get_num_threads()
    name = "mask_known_int32" if offset.dtype == torch.int32 else "mask_known_int64"
    call(name, query, offset, answer, entity, known, *sizes)
    return known


def all_answers(
    query: Int64[Tensor, " B"],
    offset: Int32[Tensor, " Q_plus_1"] | Int64[Tensor, " Q_plus_1"],
    answer: Int32[Tensor, " T"] | Int64[Tensor, " T"],
) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """All known answers: for each the position of its positive, ascending, and the answer."""
    found = query.clamp(min=0)
    count = torch.where(query >= 0, offset[found + 1] - offset[found], 0) if len(offset) > 1 else query * 0
    index = torch.repeat_interleave(torch.arange(len(query), device=query.device), count)
    first = count.cumsum(0) - count
    within = torch.arange(len(index), device=query.device) - first[index]
    return index, answer[offset[found[index]] + within].long()
