"""TuckER (Balazevic et al., TuckER: Tensor factorization for knowledge graph completion, EMNLP 2019).

sum_ijk core_ijk h_i r_j t_k, with one core tensor for all relations.
"""

from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, product_type
from embedding.scoring.dense import sum_outer
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError

_BLOCK_NUMBERS = 1 << 20
"""Most numbers in a block of outer products of entity and relation rows."""


class TuckER(QueryScoring):
    """A trilinear form whose tensor `core`, [dim, relation_dim, dim], is learned.

    The authors' batch norm and dropout are left out: batch norm would make a score depend on the other triples of a
    rank.

    Args:
        relation_dim: numbers in a relation vector.
        precision: "float32", or "bfloat16" for the matrix products of shared candidates.
    """

    def __init__(self, dim: int, relation_dim: int, precision: str) -> None:
        if relation_dim < 1:
            raise InputError(f"relation_dim must be at least 1, got {relation_dim}")
        self.product_type, self.relation_dim = product_type(precision), relation_dim
        super().__init__(dim, {"entity": dim}, {"relation": relation_dim})
        # Keeps the length of a query near that of an entity row: relation rows have variance 12 / relation_dim.
        limit = 0.5 / dim**0.5
        self.core = self.dense_parameter("core", (dim, relation_dim, dim), -limit, limit)

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The size of a relation vector."""
        return {"relation_dim": self.relation_dim}

    def relation_init_range(self) -> float:
        """6 / sqrt(relation_dim)."""
        return 6.0 / self.relation_dim**0.5

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The trilinear form."""
        shape = torch.broadcast_shapes(head.shape[:-1], relation.shape[:-1])
        head, relation = (each.expand(*shape, each.shape[-1]).reshape(-1, each.shape[-1]) for each in (head, relation))
        return (_contract(head, relation, self.core).view(*shape, self.dim) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The core, contracted with h and r."""
        return _contract(head, relation, self.core)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The core, contracted with t and r."""
        return _contract(tail, relation, self.core.permute(2, 1, 0))

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.product_type)


def _contract(
    entity: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], core: Float64[Tensor, "E R E"]
) -> Float[Tensor, "B E"]:
    """sum_ij core_ijk entity_i relation_j."""
    return cast(Tensor, _Contraction.apply(entity, relation, core))


class _Contraction(torch.autograd.Function):
    """A matrix product with the outer products of entities and relations, in blocks to save memory."""

    @staticmethod
    def forward(ctx: FunctionCtx, entity: Tensor, relation: Tensor, core: Tensor) -> Tensor:
        matrix = core.to(entity.dtype).flatten(0, 1)  # [E R, E]
        ctx.save_for_backward(entity, relation, matrix)
        result = entity.new_empty((len(entity), matrix.shape[1]))
        for block in _blocks(entity, relation):
            torch.mm(_outer(entity[block], relation[block]), matrix, out=result[block])
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        entity, relation, matrix = (each.detach() for each in ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]
        by_entity, by_relation = torch.empty_like(entity), torch.empty_like(relation)
        by_core = torch.zeros(matrix.shape, dtype=torch.float64, device=matrix.device)
        for block in _blocks(entity, relation):
            given = gradient[0][block]
            by_core += sum_outer(_outer(entity[block], relation[block]), given)
            by_outer = (given @ matrix.T).view(-1, entity.shape[1], relation.shape[1])
            by_entity[block] = (by_outer @ relation[block, :, None])[:, :, 0]
            by_relation[block] = (entity[block, None] @ by_outer)[:, 0]
        return by_entity, by_relation, by_core.view(entity.shape[1], relation.shape[1], -1)


def _blocks(entity: Tensor, relation: Tensor) -> list[slice]:
    size = max(1, _BLOCK_NUMBERS // (entity.shape[1] * relation.shape[1]))
    return [slice(start, start + size) for start in range(0, len(entity), size)]


def _outer(entity: Float[Tensor, "b E"], relation: Float[Tensor, "b R"]) -> Float[Tensor, "b O"]:
    return (entity[:, :, None] * relation[:, None]).flatten(1)
