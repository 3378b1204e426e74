"""Marks the negatives that are known answers, by a binary search for each. A program has negatives of one positive."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

_MOST = 256
"""Negatives that a program looks up at a time."""


@triton.jit
@no_type_check
def _mask_known(query, offset, answer, entity, known, size, negatives, N: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * N + tl.arange(0, N)
    inside = n < negatives
    wanted = tl.load(entity + b // size * negatives + n, mask=inside, other=-1)
    row = tl.load(query + b)
    first = tl.load(offset + row, mask=row >= 0, other=0).to(tl.int64)
    last = tl.load(offset + row + 1, mask=row >= 0, other=0).to(tl.int64)
    # All answers before `place` are smaller, and the first that is not is one of the next `left` or the one after them.
    place = first + tl.zeros((N,), dtype=tl.int64)
    left = last - first
    while left > 0:
        half = (left + 1) // 2
        smaller = tl.load(answer + place + (half - 1)).to(tl.int64) < wanted
        place = tl.where(smaller, place + half, place)
        left -= half
    found = tl.load(answer + place, mask=place < last, other=-1).to(tl.int64)
    tl.store(known + b * negatives + n, ((place < last) & (found == wanted)).to(tl.uint8), mask=inside)


def mask_known(
    query: Int64[Tensor, " B"],
    offset: Int32[Tensor, " Q_plus_1"] | Int64[Tensor, " Q_plus_1"],
    answer: Int32[Tensor, " T"],
    entity: Int64[Tensor, "C N"],
) -> Bool[Tensor, "B N"]:
    """As `kernels.known.mask_known`, which checks the shapes. The host does not wait."""
    chunks, negatives = entity.shape
    known = torch.empty((len(query), negatives), dtype=torch.uint8, device=entity.device)
    if known.numel():
        block = min(max(triton.next_power_of_2(negatives), 16), _MOST)
        grid = len(query), triton.cdiv(negatives, block)
        _mask_known[grid](query, offset, answer, entity, known, len(query) // chunks, negatives, N=block)
    return known.view(torch.bool)
