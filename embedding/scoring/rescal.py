"""RESCAL (Nickel et al., A three-way model for collective learning on multi-relational data, ICML 2011): h . M t."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.queries import Queries
from embedding.scoring.scoring import QueryScoring
from kernels.dropped import dropped_outer_sums, dropped_products
from kernels.library import usable


class RESCAL(QueryScoring):
    """A bilinear form with a full matrix; a relation row holds it row by row, dim x dim.

    Args:
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    def __init__(self, dim: int, precision: str) -> None:
        self.precision = precision_of(precision)
        super().__init__(dim, {"entity": dim}, {"relation": dim * dim})

    def relation_init_range(self) -> float:
        """Variance 1 / dim, so that mapping does not change the length of a vector."""
        return (3 / self.dim) ** 0.5

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The bilinear form."""
        return ((head[..., None, :] @ self._matrix(relation))[..., 0, :] * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The transposed matrix times h."""
        return (head[:, None] @ self._matrix(relation))[:, 0]

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The matrix times t."""
        return (self._matrix(relation) @ tail[:, :, None])[:, :, 0]

    def relation_query(self, head: Float[Tensor, "B E"], tail: Float[Tensor, "B E"]) -> Float[Tensor, "B R"]:
        """The outer product of h and t."""
        return (head[:, :, None] * tail[:, None]).flatten(1)

    def make_queries(self, queries: Queries) -> Float[Tensor, "B E"] | None:
        """See `QueryScoring`; with dropout of relation rows on a CPU, without copies of their matrices."""
        kept, relations = queries.kept_of_relations, queries.relations
        if kept is None or not usable(queries.lookup.rows, relations):
            return super().make_queries(queries)
        parts = zip(
            *(each.split(queries.sizes) for each in (queries.entity_rows(), queries.relation, kept.mask)), strict=True
        )
        of_heads, of_tails = (
            cast(Tensor, _DroppedQueries.apply(*part, relations, kept.probability, heads))
            for part, heads in zip(parts, (True, False), strict=True)
        )
        return torch.cat([of_heads, of_tails])

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)

    def _matrix(self, relation: Float[Tensor, "*#b R"]) -> Float[Tensor, "*#b E E"]:
        return relation.unflatten(-1, (self.dim, self.dim))


class _DroppedQueries(torch.autograd.Function):
    """Queries for heads or for tails with what masks leave of each one's matrix, whose gradient is in float64."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        entity: Tensor,
        relation: Tensor,
        mask: Tensor,
        relations: Tensor,
        probability: float,
        of_heads: bool,
    ) -> Tensor:
        entity, relation, relations = entity.contiguous(), relation.contiguous(), relations.to(entity.dtype)
        ctx.save_for_backward(entity, relation, mask, relations)
        ctx.chosen = probability, of_heads  # pyright: ignore[reportAttributeAccessIssue]
        return dropped_products(entity, relations, relation, mask, transposed=of_heads).div_(1 - probability)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        entity, relation, mask, relations = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        probability, of_heads = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        given = gradient[0] / (1 - probability)
        by_entity = dropped_products(given, relations, relation, mask, transposed=not of_heads)
        sides = (given, entity) if of_heads else (entity, given)
        by_relations = dropped_outer_sums(*sides, relation, mask, len(relations))
        return by_entity, None, None, by_relations, None, None
