"""The interface of scoring functions. A new one needs only the method `score`; other methods make it faster.

Letters in shapes: B queries, C chunks (C divides B), S = B / C queries in each chunk, N candidates of each chunk, E
numbers in an entity row, R in a relation row. A higher score always means a more plausible triple.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embedding.scoring.candidate_blocks import in_blocks
from embedding.scoring.candidates import Candidates
from embedding.scoring.fused import FusedLoss, FusedScores, fused_scores
from embedding.scoring.queries import Queries
from graph.counter_random import random_uniform, stream
from kernels.gpu.available import usable_on_gpu
from kernels.library import usable
from kernels.pairs import Comparison
from kernels.precision import Precision
from kernels.queries import Combination


class ScoringFunction(nn.Module, ABC):
    """Scores triples from entity and relation rows.

    Args:
        dim: the size of the model.
        entity_parts: names and widths of the parts of an entity row, such as TransD's vector and its transfer vector.
            The parts lie one after the other in the row, and are exported as files of these names.
        relation_parts: the same for a relation row.

    All other parameters must be made by `dense_parameter`.

    Example:
        scoring = TransE(dim=100, norm=1, precision="float32")
        scoring.score(head, relation, tail)  # rows [B, 100] each: scores [B]
    """

    entity_components: int = 1
    """Real numbers for each number of an entity vector: 2 if it is complex, with all real parts first in the row."""
    relation_components: int = 1
    """The same for a relation row."""
    entity_biases: int = 0
    """Numbers at the end of an entity row that belong to no vector: an encoder leaves them as they were learned."""
    comparison: Comparison | None = None
    """If `compare` of a `QueryScoring` is exactly this kernel, its name: only then can scores and loss be fused."""
    precision: Precision = Precision.FLOAT32
    """What the factors of products with shared candidates are rounded to while training."""
    on_scores: Callable[[Tensor], None] | None = None
    """If set, each `scorer` calls it with its scores; used to count scored candidates."""

    def __init__(self, dim: int, entity_parts: dict[str, int], relation_parts: dict[str, int]) -> None:
        super().__init__()
        self.dim = dim
        self.entity_parts = entity_parts
        self.relation_parts = relation_parts
        self._dense_ranges: dict[str, tuple[float, float]] = {}

    def dense_parameter(self, name: str, shape: tuple[int, ...], low: float, high: float) -> nn.Parameter:
        """Makes a parameter that all triples share, such as a matrix; assign it to the attribute `name`.

        It has type float64, as relation rows have, and is rounded to the type of the rows when used. Its gradient must
        be summed over queries in float64 (see `affine`), so that it does not depend on the number of ranks. Its initial
        values are uniform in [low, high].
        """
        self._dense_ranges[name] = low, high
        return nn.Parameter(torch.full(shape, low, dtype=torch.float64))

    def fill_dense(self, owner: str, seed: int) -> None:
        """Sets dense parameters to their initial values: a function of (seed, owner, name, index).

        Raises:
            TypeError: a parameter was not made by `dense_parameter`.
        """
        for name, parameter in self.named_parameters():
            if name not in self._dense_ranges:  # its initial values would not depend on the seed alone
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
        """Options that are needed to compute scores from the exported rows; written into `model.json`."""
        return {}

    def entity_init_range(self) -> float:
        """Entity rows start uniform in +- this (Bordes et al. 2013: 6 / sqrt(dim))."""
        return 6.0 / self.dim**0.5

    def relation_init_range(self) -> float:
        """Relation rows start uniform in +- this."""
        return self.entity_init_range()

    def part_init_range(self, part: str) -> float:
        """The same for one part of a row; override it if parts differ."""
        return self.entity_init_range() if part in self.entity_parts else self.relation_init_range()

    @property
    def pair_numbers(self) -> int:
        """Numbers that `in_blocks` needs for one query and one candidate at a time."""
        return self.entity_width

    @abstractmethod
    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The score of each triple; higher is more plausible. Leading axes broadcast."""

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"] | None:
        """The vector whose inner product with a relation's row is the score of the relation; None if there is none.

        There is one if scores are linear in the relation row. It makes scores with all relations one matrix product.
        """
        return None

    def score_tails(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], tails: Candidates
    ) -> Float[Tensor, "B N"]:
        """The score of each query (head, relation) with each candidate tail of its chunk."""
        return in_blocks(
            lambda h, r, tail: self.score(h[:, :, None], r[:, :, None], tail[:, None]),
            (head, relation),
            tails,
            self.pair_numbers,
        )

    def score_heads(
        self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], heads: Candidates
    ) -> Float[Tensor, "B N"]:
        """The score of each query (relation, tail) with each candidate head of its chunk."""
        return in_blocks(
            lambda t, r, head: self.score(head[:, None], r[:, :, None], t[:, :, None]),
            (tail, relation),
            heads,
            self.pair_numbers,
        )

    def scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        """A function that scores these queries with candidates; it is called with one block of candidates at a time.

        Args:
            anchor: rows of the entities that are not corrupted.
            of_heads: True if the candidates are heads.
        """
        return self._counted(self._scorer(anchor, relation, of_heads=of_heads))

    def _counted(self, score: Callable[[Candidates], Float[Tensor, "B N"]]) -> Callable[[Candidates], Tensor]:
        return score if self.on_scores is None else partial(_score_and_tell, score, self.on_scores)

    def _scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        return partial(self.score_heads if of_heads else self.score_tails, anchor, relation)

    def score_batch(
        self, queries: Queries, target: Candidates | None, candidates: Candidates
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """Scores [B] of the positives and [B, N] of the triples with each candidate in place of the target.

        Args:
            target: for each positive, the entity that the candidates replace, with N = 1; None if the scores of
                positives are not needed.
        """
        sizes = queries.sizes
        split = sizes[0] * len(candidates.place) // max(len(queries.place), 1)
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
    """A scoring function that computes a vector from (head, relation) or (relation, tail), and compares it with rows.

    The vector is called the query and has Q numbers. For most scoring functions Q = E.
    """

    combination: Combination | None = None
    """The kernel that computes the queries; None if there is none."""

    @abstractmethod
    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """The vector that the tail is compared with."""

    @abstractmethod
    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"] | None:
        """The vector that the head is compared with; None if there is none: then `score` is computed for each pair."""

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
        """The queries for heads or for tails."""
        return (self.head_query if of_heads else self.tail_query)(anchor, relation)

    def _scorer(
        self, anchor: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], *, of_heads: bool
    ) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        query = self.query(anchor, relation, of_heads=of_heads)  # computed once for all blocks
        return super()._scorer(anchor, relation, of_heads=of_heads) if query is None else partial(self.compare, query)

    def relation_factors(self, relations: Float64[Tensor, "R_ R"]) -> Float64[Tensor, "R_ E"]:
        """The rows that `combination` combines entity rows with, one for each relation, from all relation rows."""
        return relations

    def score_batch(
        self, queries: Queries, target: Candidates | None, candidates: Candidates
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """See `ScoringFunction.score_batch`; each query is computed once, for the target and the candidates."""
        query = self.make_queries(queries)
        return (
            super().score_batch(queries, target, candidates)
            if query is None
            else self.score_queries(query, target, candidates)
        )

    def score_queries(
        self, query: Float[Tensor, "B Q"], target: Candidates | None, candidates: Candidates
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """The scores of `score_batch`, from its queries."""
        positive = None if target is None else self.compare(query, target).squeeze(1)
        return positive, self.compare(query, candidates)

    def fused_scores(
        self, query: Float[Tensor, "B Q"], target: Candidates, candidates: Candidates, loss: FusedLoss
    ) -> FusedScores:
        """The scores of `score_queries` and their loss, by one kernel. Needs a `comparison`."""
        assert self.comparison is not None
        return fused_scores(self.comparison, query, target, candidates, loss, self.precision)

    def comparer(self, query: Float[Tensor, "B Q"]) -> Callable[[Candidates], Float[Tensor, "B N"]]:
        """As `scorer`, for queries that have been made."""
        return self._counted(partial(self.compare, query))

    def make_queries(self, queries: Queries) -> Float[Tensor, "B Q"] | None:
        """One vector for each query of a batch; None if some of them have none."""
        rows = queries.lookup.rows
        if self.combination is not None and queries.as_stored and (usable(rows) or usable_on_gpu(rows)):
            return queries.combined(self.combination, self.relation_factors(queries.relations))
        sizes = queries.sizes
        if not sizes[0]:
            return self.tail_query(queries.entity_rows(), queries.relation_rows())
        # split, not two slices: each slice's gradient would be a full-size copy filled up with zeros.
        (tail, head), (of_tail, of_head) = queries.entity_rows().split(sizes), queries.relation_rows().split(sizes)
        of_heads = self.head_query(tail, of_tail)
        return None if of_heads is None else torch.cat([of_heads, self.tail_query(head, of_head)])


def _score_and_tell(
    score: Callable[[Candidates], Tensor], tell: Callable[[Tensor], None], candidates: Candidates
) -> Tensor:
    scores = score(candidates)
    tell(scores)
    return scores
