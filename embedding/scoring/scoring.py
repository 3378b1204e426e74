"""What a scoring function is: one method is enough for a new one, others make it fast.

Letters in shapes: B queries, C chunks (C divides B), N candidates a chunk, E and R numbers of an entity and a relation
row, S = B / C queries a chunk. A score is higher for a more plausible triple, always.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embedding.scoring.candidates import Candidates
from embedding.scoring.fused import FusedLoss, FusedScores, fused_scores
from embedding.scoring.queries import Queries
from graph.counter_random import random_uniform, stream
from kernels.library import usable
from kernels.pairs import Comparison
from kernels.queries import Combination

_BLOCK_NUMBERS = 1 << 22
"""Numbers in the largest intermediate of a blocked score: 16 MB in float32, what a processor's cache still helps."""


class ScoringFunction(nn.Module, ABC):
    """Scores triples of entity and relation rows.

    A row may have several named parts one after the other, such as TransD's vector and its transfer vector; the names
    are those of the exported files. What is learned beside rows is made by `dense_parameter`, and by nothing else.
    """

    entity_components: int = 1
    """How many real numbers make one number of an entity row, the first of all numbers first: 2 for complex ones."""
    relation_components: int = 1
    """The same of a relation row."""
    comparison: Comparison | None = None
    """How the fused pass compares queries with rows; None if it can't. Only a `QueryScoring` may have one."""
    on_scores: Callable[[Tensor], None] | None = None
    """Called with what each `scorer` scores, where someone counts that."""

    def __init__(self, dim: int, entity_parts: dict[str, int], relation_parts: dict[str, int]) -> None:
        super().__init__()
        self.dim = dim
        self.entity_parts = entity_parts
        self.relation_parts = relation_parts
        self._dense_ranges: dict[str, tuple[float, float]] = {}

    def dense_parameter(self, name: str, shape: tuple[int, ...], low: float, high: float) -> nn.Parameter:
        """A parameter that all triples share, to be kept as the attribute `name`: a filter, a matrix, a weight.

        It is kept in float64, as relation rows are, and rounded to the rows' type when used. A gradient that sums over
        queries must do so in float64 (see `affine`), or the sum would show how many ranks it was made on. Its values
        start uniform in [low, high], or as `low` where the two are equal.
        """
        self._dense_ranges[name] = low, high
        return nn.Parameter(torch.full(shape, low, dtype=torch.float64))

    def fill_dense(self, owner: str, seed: int) -> None:
        """Gives dense parameters their initial values: a function of (seed, owner, name, place)."""
        for name, parameter in self.named_parameters():
            if name not in self._dense_ranges:  # it would start from random numbers of its own, and in another type
                raise TypeError(f"{type(self).__name__}.{name} must be made by dense_parameter")
            low, high = self._dense_ranges[name]
            place = torch.arange(parameter.numel())
            uniform = random_uniform(stream(f"{owner} {name}", seed), place).view(parameter.shape)
            parameter.detach().copy_(low + (high - low) * uniform)

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

    def part_init_range(self, part: str) -> float:
        """The same for one part of a row, for those whose parts are of different kinds."""
        return self.entity_init_range() if part in self.entity_parts else self.relation_init_range()

    @property
    def pair_numbers(self) -> int:
        """Numbers that a blocked score holds at a time for one query and one candidate."""
        return self.entity_width

    @abstractmethod
    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The score of each triple; leading axes broadcast."""

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Candidates
    ) -> Float[Tensor, "B N"]:
        """The score of each query with each tail of its chunk."""
        return in_blocks(
            lambda h, r, tail: self.score(h[:, :, None], r[:, :, None], tail[:, None]),
            (head, relation),
            tails,
            self.pair_numbers,
        )

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Candidates
    ) -> Float[Tensor, "B N"]:
        """The score of each query with each head of its chunk."""
        return in_blocks(
            lambda t, r, head: self.score(head[:, None], r[:, :, None], t[:, :, None]),
            (tail, relation),
            heads,
            self.pair_numbers,
        )

    def scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        """What scores the same queries with one block of candidates after the other."""
        score = self._scorer(anchor, relation, of_heads=of_heads)
        return score if self.on_scores is None else partial(_score_and_tell, score, self.on_scores)

    def _scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        return partial(self.score_heads if of_heads else self.score_tails, anchor, relation)

    def score_batch(
        self, queries: Queries, target: Candidates | None, candidates: Candidates
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """Scores of positives, and of the triples with each candidate in the target's place.

        Args:
            target: the entity that candidates replace, as each positive's only candidate; None if the positives'
                scores are not wanted.
        """
        sizes = [queries.head_rows, len(queries.place) - queries.head_rows]
        split = queries.head_rows * len(candidates.place) // max(len(queries.place), 1)
        relation = queries.relation_rows()
        (tail, head), (of_tail, of_head) = queries.entity_rows().split(sizes), relation.split(sizes)
        heads = self.score_heads(tail, of_tail, candidates.chunks(0, split))
        tails = self.score_tails(head, of_head, candidates.chunks(split, len(candidates.place)))
        if target is None:
            return None, torch.cat([heads, tails])
        other_head, other_tail = target.rows()[:, 0].split(sizes)
        positive = self.score(torch.cat([other_head, head]), relation, torch.cat([tail, other_tail]))
        return positive, torch.cat([heads, tails])


class QueryScoring(ScoringFunction):
    """A scoring function that first makes one vector of (head, relation) or (tail, relation), then compares.

    Q numbers of such a vector are E where it is compared with rows as they are.
    """

    combination: Combination | None = None
    """What the queries are, if a kernel can make them."""

    @abstractmethod
    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """The vector that the tail is compared with."""

    @abstractmethod
    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"] | None:
        """The vector that the head is compared with; None if there is none, and `score` is to take every pair."""

    @abstractmethod
    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """The score of each query with each candidate of its chunk."""

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Candidates
    ) -> Float[Tensor, "B N"]:
        """See `ScoringFunction.score_tails`."""
        return self.compare(self.tail_query(head, relation), tails)

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Candidates
    ) -> Float[Tensor, "B N"]:
        """See `ScoringFunction.score_heads`."""
        query = self.head_query(tail, relation)
        return super().score_heads(tail, relation, heads) if query is None else self.compare(query, heads)

    def query(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Float[Tensor, "B Q"] | None:
        """The vectors of one side."""
        return (self.head_query if of_heads else self.tail_query)(anchor, relation)

    def _scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        query = self.query(anchor, relation, of_heads=of_heads)  # made once
        return super()._scorer(anchor, relation, of_heads=of_heads) if query is None else partial(self.compare, query)

    def relation_factors(self, relations: Float64[Tensor, "R_ R"]) -> Float64[Tensor, "R_ E"]:
        """What `combination` combines entities with, from all relations' rows."""
        return relations

    def score_batch(
        self, queries: Queries, target: Candidates | None, candidates: Candidates
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """See `ScoringFunction.score_batch`: each query is made once, and compared with its target too."""
        query = self._make_queries(queries)
        if query is None:
            return super().score_batch(queries, target, candidates)
        positive = None if target is None else self.compare(query, target)[:, 0]
        return positive, self.compare(query, candidates)

    def fused_batch(self, queries: Queries, target: Candidates, candidates: Candidates, loss: FusedLoss) -> FusedScores:
        """Scores as `score_batch` makes them, and their loss, by one kernel; only where there is a `comparison`."""
        query = self._make_queries(queries)
        assert self.comparison is not None
        assert query is not None
        return fused_scores(self.comparison, query, target, candidates, loss)

    def _make_queries(self, queries: Queries) -> Float[Tensor, "B Q"] | None:
        if self.combination is not None and queries.as_stored and usable(queries.lookup.rows):
            return queries.combined(self.combination, self.relation_factors(queries.relations))
        if not queries.head_rows:
            return self.tail_query(queries.entity_rows(), queries.relation_rows())
        # Split, not sliced: the gradient of two slices is a copy each, filled up with zeros, and their sum.
        sizes = [queries.head_rows, len(queries.place) - queries.head_rows]
        (tail, head), (of_tail, of_head) = queries.entity_rows().split(sizes), queries.relation_rows().split(sizes)
        of_heads = self.head_query(tail, of_tail)
        return None if of_heads is None else torch.cat([of_heads, self.tail_query(head, of_head)])


def _score_and_tell(
    score: Callable[[Candidates], Tensor], tell: Callable[[Tensor], None], candidates: Candidates
) -> Tensor:
    scores = score(candidates)
    tell(scores)
    return scores


def by_chunk(query: Float[Tensor, "B E"], chunks: int) -> Float[Tensor, "C S E"]:
    """Queries grouped by chunk; a rank without work has none."""
    return query.view(chunks, len(query) // max(chunks, 1), query.shape[1])


def in_blocks(
    score: Callable[..., Float[Tensor, "C S n"]],
    query: tuple[Float[Tensor, "B _"], ...],
    candidates: Candidates,
    pair_numbers: int | None = None,
) -> Float[Tensor, "B N"]:
    """Scores candidates a block at a time, so that no [B, N, E] intermediate is ever whole.

    With more than one block, backward computes each block again instead of keeping it.

    Args:
        score: takes the query's parts `[C, S, _]` and a block of candidates `[C, n, E]`.
        pair_numbers: what it holds at a time for one query and one candidate; None: as many numbers as a candidate's.
    """
    chunks, num_candidates = candidates.place.shape
    parts = [by_chunk(part, chunks) for part in query]
    pair_numbers = pair_numbers or candidates.lookup.rows.shape[1]
    size = max(1, _BLOCK_NUMBERS // max(1, len(query[0]) * pair_numbers))
    # A power of two, so that candidates in multiples of 64, as in ranking, make equal blocks: a product of another
    # width may round otherwise, and equal rows would not have equal scores.
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
