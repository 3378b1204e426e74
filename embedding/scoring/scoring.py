"""What a scoring function is: one method is enough for a new one, others make it fast.

Letters in shapes: B queries, C chunks (C divides B), N candidates a chunk, E and R numbers of an entity and a relation
row, S = B / C queries a chunk. A score is higher for a more plausible triple, always.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_BLOCK_NUMBERS = 1 << 22
"""Numbers in the largest intermediate of a blocked score: 16 MB in float32, what a processor's cache still helps."""


class ScoringFunction(nn.Module, ABC):
    """Scores triples of entity and relation rows.

    A row may have several named parts one after the other, such as TransD's vector and its transfer vector; the names
    are those of the exported files.
    """

    def __init__(self, dim: int, entity_parts: dict[str, int], relation_parts: dict[str, int]) -> None:
        super().__init__()
        self.dim = dim
        self.entity_parts = entity_parts
        self.relation_parts = relation_parts

    @property
    def entity_width(self) -> int:
        """Numbers in an entity row."""
        return sum(self.entity_parts.values())

    @property
    def relation_width(self) -> int:
        """Numbers in a relation row."""
        return sum(self.relation_parts.values())

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """What else someone must know to compute the score from the exported rows, for `model.json`."""
        return {}

    def entity_init_range(self) -> float:
        """Entity rows start uniform in +- this (Bordes et al. 2013: 6 / sqrt(dim))."""
        return 6.0 / self.dim**0.5

    def relation_init_range(self) -> float:
        """Relation rows start uniform in +- this."""
        return self.entity_init_range()

    @abstractmethod
    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The score of each triple; leading axes broadcast."""

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Float[Tensor, "C N E"]
    ) -> Float[Tensor, "B N"]:
        """The score of each query with each tail of its chunk."""
        return in_blocks(
            lambda h, r, tail: self.score(h[:, :, None], r[:, :, None], tail[:, None]), (head, relation), tails
        )

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Float[Tensor, "C N E"]
    ) -> Float[Tensor, "B N"]:
        """The score of each query with each head of its chunk."""
        return in_blocks(
            lambda t, r, head: self.score(head[:, None], r[:, :, None], t[:, :, None]), (tail, relation), heads
        )


class QueryScoring(ScoringFunction):
    """A scoring function that first makes one vector of (head, relation) or (tail, relation), then compares."""

    @abstractmethod
    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The vector that the tail is compared with."""

    @abstractmethod
    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The vector that the head is compared with."""

    @abstractmethod
    def compare(self, query: Float[Tensor, "C S E"], candidate: Float[Tensor, "C N E"]) -> Float[Tensor, "C S N"]:
        """The score of each query of a chunk with each candidate of the chunk."""

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Float[Tensor, "C N E"]
    ) -> Float[Tensor, "B N"]:
        """See `ScoringFunction.score_tails`."""
        return self._compare(self.tail_query(head, relation), tails)

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Float[Tensor, "C N E"]
    ) -> Float[Tensor, "B N"]:
        """See `ScoringFunction.score_heads`."""
        return self._compare(self.head_query(tail, relation), heads)

    def _compare(self, query: Float[Tensor, "B E"], candidate: Float[Tensor, "C N E"]) -> Float[Tensor, "B N"]:
        return self.compare(by_chunk(query, len(candidate)), candidate).flatten(0, 1)


def by_chunk(query: Float[Tensor, "B E"], chunks: int) -> Float[Tensor, "C S E"]:
    """Queries grouped by chunk; a rank without work has none."""
    return query.view(chunks, len(query) // max(chunks, 1), query.shape[1])


def in_blocks(
    score: Callable[..., Float[Tensor, "C S n"]],
    query: tuple[Float[Tensor, "B _"], ...],
    candidates: Float[Tensor, "C N E"],
) -> Float[Tensor, "B N"]:
    """Scores candidates a block at a time, so that no [B, N, E] intermediate is ever whole.

    With more than one block, backward computes each block again instead of keeping it.

    Args:
        score: takes the query's parts `[C, S, _]` and a block of candidates `[C, n, E]`.
    """
    chunks, num_candidates, width = candidates.shape
    parts = [by_chunk(part, chunks) for part in query]
    size = max(1, _BLOCK_NUMBERS // max(1, len(query[0]) * width))
    if size >= num_candidates:
        return score(*parts, candidates).flatten(0, 1)
    pieces = []
    for block in candidates.split(size, dim=1):
        if torch.is_grad_enabled():
            piece = checkpoint(score, *parts, block, use_reentrant=False, preserve_rng_state=False)
            assert isinstance(piece, Tensor)
            pieces.append(piece)
        else:
            pieces.append(score(*parts, block))
    return torch.cat(pieces, dim=2).flatten(0, 1)
