"""The queries of a batch: the entity that is not corrupted and the relation, as places in their tables."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.dropout import Kept
from embedding.lookup import Lookup
from kernels.gpu.available import usable_on_gpu
from kernels.queries import Combination, HeadRows, entity_gradient, make_queries, relation_gradient
from kernels.row_sources import GatheredGradient
from kernels.row_sums import whole_sum_of_occurrences


@dataclass(frozen=True)
class Queries:
    """B queries: (relation, tail) for the first `head_rows`, which ask for heads; (head, relation) for the others."""

    lookup: Lookup
    place: Int64[Tensor, " B"]
    """Place in the look-up of the entity that is not corrupted."""
    relations: Float64[Tensor, "R_ R"]
    """The rows of all relations."""
    relation: Int64[Tensor, " B"]
    head_rows: HeadRows
    kept_of_entities: Kept | None = None
    """What dropout leaves of the entity rows; None without dropout."""
    kept_of_relations: Kept | None = None
    """What dropout leaves of the relation rows; None without dropout."""

    @property
    def sizes(self) -> list[int]:
        """How many queries ask for heads, and how many for tails, where no kernel makes them."""
        heads = int(self.head_rows)
        return [heads, len(self.place) - heads]

    @property
    def as_stored(self) -> bool:
        """True if there is no dropout, so that a kernel may read the rows in their tables."""
        return self.kept_of_entities is None and self.kept_of_relations is None

    def entity_rows(self) -> Float[Tensor, "B E"]:
        """Copies of the rows of the entities that are not corrupted; differentiable."""
        rows = self.lookup.gather(self.place)
        return rows if self.kept_of_entities is None else self.kept_of_entities.of(rows)

    def relation_rows(self) -> Float[Tensor, "B R"]:
        """Copies of the relation rows in the type of entity rows; differentiable."""
        rows = relation_rows(self.relations, self.relation, self.lookup.rows.dtype)
        return rows if self.kept_of_relations is None else self.kept_of_relations.of(rows)

    def combined(self, kind: Combination, relations: Float64[Tensor, "R_ E"]) -> Float[Tensor, "B E"]:
        """One vector for each query, computed by a kernel from entity rows and `relations`; differentiable."""
        lookup = self.lookup
        return cast(
            Tensor,
            _Combined.apply(lookup.handle, relations, kind, lookup, self.place, self.relation, self.head_rows),
        )


def relation_rows(
    relations: Float64[Tensor, "R_ R"], relation: Int64[Tensor, " B"], dtype: torch.dtype
) -> Float[Tensor, "B R"]:
    """Copies of relation rows in the type `dtype`; their gradient is summed in float64."""
    return cast(Tensor, _RelationRows.apply(relations, relation, dtype))


class _RelationRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, relation: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(relation)
        ctx.num_relations = len(weight)  # pyright: ignore[reportAttributeAccessIssue]
        return torch.nn.functional.embedding(relation, weight.to(dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, None, None]:
        (relation,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        size: int = ctx.num_relations  # pyright: ignore[reportAttributeAccessIssue]
        return whole_sum_of_occurrences(relation, gradient[0], size), None, None


class _Combined(torch.autograd.Function):
    """Reads rows without copying. Backward adds the entity gradient to the look-up and returns that of relations."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        handle: Tensor,
        relations: Tensor,
        kind: Combination,
        lookup: Lookup,
        place: Tensor,
        relation: Tensor,
        head_rows: HeadRows,
    ) -> Tensor:
        if not usable_on_gpu(lookup.rows):  # kernels on a GPU read float64
            relations = relations.to(lookup.rows.dtype)
        relation = relation.contiguous()
        ctx.save_for_backward(relations, place, relation)
        ctx.chosen = kind, lookup, head_rows  # pyright: ignore[reportAttributeAccessIssue]
        return make_queries(kind, lookup.rows, place, relations, relation, head_rows)

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        relations, place, relation = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        kind, lookup, head_rows = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        gradient = given[0].contiguous()
        of_entities = entity_gradient(kind, gradient, relations, relation, head_rows)
        lookup.add(GatheredGradient(place, of_entities))
        rows = lookup.rows
        by_relation = relation_gradient(kind, gradient, rows, place, relation, len(relations), head_rows)
        return lookup.handle.new_zeros(0), by_relation, None, None, None, None, None
