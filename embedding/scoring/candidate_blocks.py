"""Scores of shared candidates, some of them at a time, so that no tensor of size [B, N, E] is needed.

Letters in shapes are those of scoring.py.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from embedding.scoring.candidates import Candidates
from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 22
"""Most numbers in an intermediate tensor of `in_blocks` on a CPU: 16 MB of float32, which profit from its cache."""


def by_chunk(query: Float[Tensor, "B E"], chunks: int) -> Float[Tensor, "C S E"]:
    """Queries grouped by chunk; there may be no chunks."""
    return query.view(chunks, len(query) // max(chunks, 1), query.shape[1])


def in_blocks(
    score: Callable[..., Float[Tensor, "C S n"]],
    query: tuple[Float[Tensor, "B _"], ...],
    candidates: Candidates,
    pair_numbers: int | None = None,
) -> Float[Tensor, "B N"]:
    """Scores candidates block by block. If there are several, backward computes each block again, to save memory.

    Args:
        score: maps the parts of the query `[C, S, _]` and a block of candidate rows `[C, n, E]` to scores `[C, S, n]`.
        pair_numbers: numbers that it needs for one query and one candidate at a time; None: the width of a row.
    """
    chunks, num_candidates = candidates.place.shape
    parts = [by_chunk(part, chunks) for part in query]
    pair_numbers = pair_numbers or candidates.lookup.rows.shape[1]
    numbers = numbers_at_a_time(_BLOCK_NUMBERS, query[0].device)
    size = max(1, numbers // max(1, len(query[0]) * pair_numbers))
    # A power of two, so that ranking, whose candidates come in multiples of 64, has blocks of equal size. A product of
    # another size may be rounded differently, and then equal rows would not have equal scores.
    size = 1 << (size.bit_length() - 1)

    if size >= num_candidates:
        return score(*parts, candidates.rows()).flatten(0, 1)
    pieces = []
    for block in candidates.split(size):
        if torch.is_grad_enabled():
            piece = checkpoint(_score_block, score, parts, block, use_reentrant=False, preserve_rng_state=False)
            assert isinstance(piece, Tensor)
            pieces.append(piece)
        else:
            pieces.append(score(*parts, block.rows()))
    return torch.cat(pieces, dim=2).flatten(0, 1)


def _score_block(score: Callable[..., Tensor], parts: list[Tensor], block: Candidates) -> Tensor:
    return score(*parts, block.rows())
