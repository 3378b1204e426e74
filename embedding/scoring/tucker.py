"""TuckER (Balazevic et al., TuckER: Tensor factorization for knowledge graph completion, EMNLP 2019).

sum_ijk core_ijk h_i r_j t_k, with one core tensor for all relations. With batch norm: norm(h) instead of h, and
norm(sum_ij core_ijk h_i r_j) instead of the sum.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.dense import add_outer, blocks_of_rows, rows_together
from embedding.scoring.network import NetworkScoring, check_probability, normalised
from embedding.training_step import TrainingStep
from graph.errors import InputError
from kernels.block_sizes import numbers_at_a_time

_BLOCK_NUMBERS = 1 << 21
"""Most numbers in a block of outer products of entity and relation rows, on a CPU, where a block need not be as large
as what is summed together."""
_MATRIX_NUMBERS = 1 << 22
"""Most numbers in a block of relations' matrices: more, because each block adds to a gradient as large as the core."""


class TuckER(NetworkScoring):
    """A trilinear form whose tensor `core`, [dim, relation_dim, dim], is learned.

    With batch norm, norm(x) is scale (x - mean) / sqrt(variance + 1e-5) + shift for each of dim numbers; see
    `BatchNorm`. For h these are `head_norm.scale`, `head_norm.running_mean`, `head_norm.running_variance` and
    `head_norm.shift`; for the sum, `query_norm.scale`, `query_norm.running_mean`, `query_norm.running_variance` and
    `query_norm.shift`. The authors' dropout of the subject is the model's `entity_dropout`, applied after the batch
    norm. As with the authors, batch norm and hidden dropout need reciprocal relations (`reciprocal` of the model): a
    head that is asked for would be scored otherwise than a head that is given.

    Args:
        relation_dim: numbers in a relation vector.
        batch_norm: normalise the head, and the product of core, head and relation.
        hidden1_dropout: probability to drop a number of the relation's matrix, sum_j core_ijk r_j, while training; in
            [0, 1). Each positive has its own draws, so it makes a step slower.
        hidden2_dropout: probability to drop a number of the vector that is compared with rows; in [0, 1).
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    def __init__(
        self,
        dim: int,
        relation_dim: int,
        batch_norm: bool,
        hidden1_dropout: float,
        hidden2_dropout: float,
        precision: str,
    ) -> None:
        if relation_dim < 1:
            raise InputError(f"relation_dim must be at least 1, got {relation_dim}")
        check_probability("hidden1_dropout", hidden1_dropout)
        check_probability("hidden2_dropout", hidden2_dropout)
        self.precision, self.relation_dim = precision_of(precision), relation_dim
        self.hidden1_dropout, self.hidden2_dropout = hidden1_dropout, hidden2_dropout
        super().__init__(dim, {"entity": dim}, {"relation": relation_dim})
        # Keeps the length of a query near that of an entity row: relation rows have variance 12 / relation_dim.
        limit = 0.5 / dim**0.5
        self.core = self.dense_parameter("core", (dim, relation_dim, dim), -limit, limit)
        self.head_norm = self.batch_norm("head_norm", dim) if batch_norm else None
        self.query_norm = self.batch_norm("query_norm", dim) if batch_norm else None

    @property
    def differs_in_training(self) -> bool:
        """See `NetworkScoring`."""
        return self.head_norm is not None or self.hidden1_dropout > 0 or self.hidden2_dropout > 0

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The size of a relation vector."""
        return {"relation_dim": self.relation_dim}

    @property
    def pair_numbers(self) -> int:
        """A product of a vector and a relation vector, if each candidate head needs one."""
        return self.dim * self.relation_dim if self.query_norm is not None else self.dim

    def relation_init_range(self) -> float:
        """6 / sqrt(relation_dim)."""
        return 6.0 / self.relation_dim**0.5

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The trilinear form."""
        shape = torch.broadcast_shapes(head.shape[:-1], relation.shape[:-1])
        head, relation = (each.expand(*shape, each.shape[-1]).reshape(-1, each.shape[-1]) for each in (head, relation))
        return (self.tail_query(head, relation).view(*shape, self.dim) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The core, contracted with h and r."""
        return normalised(self.query_norm, _contract(normalised(self.head_norm, head), relation, self.core))

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"] | None:
        """The core, contracted with t and r. There is none with batch norm, which normalises what belongs to h."""
        return None if self.query_norm is not None else _contract(tail, relation, self.core.permute(2, 1, 0))

    def training_queries(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], step: TrainingStep
    ) -> Float[Tensor, "B E"]:
        """See `NetworkScoring.training_queries`."""
        head, relation = step.drop_entity(normalised(self.head_norm, head, step)), step.drop_relation(relation)
        if self.hidden1_dropout:
            kept = partial(step.kept, "hidden1", self.hidden1_dropout, self.dim**2)
            query = cast(Tensor, _DroppedContraction.apply(head, relation, self.core, kept, self.hidden1_dropout))
        else:
            query = _contract(head, relation, self.core, step.batch.chunk_size)
        return step.drop("hidden2", self.hidden2_dropout, normalised(self.query_norm, query, step))

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)


def _contract(
    entity: Float[Tensor, "B E"],
    relation: Float[Tensor, "B R"],
    core: Float64[Tensor, "E R E"],
    chunk_size: int | None = None,
) -> Float[Tensor, "B E"]:
    """sum_ij core_ijk entity_i relation_j; chunk_size as for `rows_together`."""
    return cast(Tensor, _Contraction.apply(entity, relation, core, chunk_size))


class _Contraction(torch.autograd.Function):
    """A matrix product with the outer products of entities and relations, in blocks to save memory."""

    @staticmethod
    def forward(ctx: FunctionCtx, entity: Tensor, relation: Tensor, core: Tensor, chunk_size: int | None) -> Tensor:
        matrix = core.to(entity.dtype).flatten(0, 1)  # [E R, E]
        ctx.chunk_size = chunk_size  # pyright: ignore[reportAttributeAccessIssue]
        ctx.save_for_backward(entity, relation, matrix)
        result = entity.new_empty((len(entity), matrix.shape[1]))
        for block in _blocks(entity, relation):
            torch.mm(_outer(entity[block], relation[block]), matrix, out=result[block])
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        chunk_size: int | None = ctx.chunk_size  # pyright: ignore[reportAttributeAccessIssue]
        entity, relation, matrix = (each.detach() for each in ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]
        by_entity, by_relation = torch.empty_like(entity), torch.empty_like(relation)
        by_core = torch.zeros(matrix.shape, dtype=torch.float64, device=matrix.device)
        together = rows_together(entity, chunk_size)
        blocks = blocks_of_rows(len(entity), together, chunk_size) if together else _blocks(entity, relation)
        for block in blocks:
            given = gradient[0][block]
            add_outer(by_core, _outer(entity[block], relation[block]), given, together=together is not None)
            by_outer = (given @ matrix.T).view(-1, entity.shape[1], relation.shape[1])
            by_entity[block] = (by_outer @ relation[block, :, None])[:, :, 0]
            by_relation[block] = (entity[block, None] @ by_outer)[:, 0]
        return by_entity, by_relation, by_core.view(entity.shape[1], relation.shape[1], -1), None


class _DroppedContraction(torch.autograd.Function):
    """The same with dropout of the relations' matrices, which have to be made for it, in blocks to save memory."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        entity: Tensor,
        relation: Tensor,
        core: Tensor,
        kept: Callable[[slice], Bool[Tensor, "b M"]],
        probability: float,
    ) -> Tensor:
        matrix = core.to(entity.dtype).transpose(0, 1).flatten(1)  # [R, E E]
        blocks = _matrix_blocks(entity)
        masks = [kept(block) for block in blocks]  # a byte for each number: drawing them again would take longer
        ctx.save_for_backward(entity, relation, matrix)
        ctx.chosen = blocks, masks, probability  # pyright: ignore[reportAttributeAccessIssue]
        result = torch.empty_like(entity)
        for block, mask in zip(blocks, masks, strict=True):
            made = _dropped(relation[block] @ matrix, mask, probability)
            result[block] = (entity[block, None] @ made.view(-1, entity.shape[1], entity.shape[1]))[:, 0]
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        entity, relation, matrix = (each.detach() for each in ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]
        blocks, masks, probability = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        by_entity, by_relation = torch.empty_like(entity), torch.empty_like(relation)
        by_matrix = torch.zeros(matrix.shape, dtype=torch.float64, device=matrix.device)
        for block, mask in zip(blocks, masks, strict=True):
            given = gradient[0][block]
            made = _dropped(relation[block] @ matrix, mask, probability)
            by_entity[block] = (made.view(-1, entity.shape[1], entity.shape[1]) @ given[:, :, None])[:, :, 0]
            by_made = _dropped(_outer(entity[block], given), mask, probability)
            by_relation[block] = by_made @ matrix.T
            by_matrix.addmm_(relation[block].double().T, by_made.double())
        by_core = by_matrix.view(-1, entity.shape[1], entity.shape[1]).transpose(0, 1)
        return by_entity, by_relation, by_core, None, None


def _dropped(made: Float[Tensor, "b M"], kept: Bool[Tensor, "b M"], probability: float) -> Float[Tensor, "b M"]:
    """Dropout, in place."""
    return made.mul_(kept).mul_(1 / (1 - probability))


def _matrix_blocks(entity: Tensor) -> list[slice]:
    size = max(1, _MATRIX_NUMBERS // entity.shape[1] ** 2)
    return blocks_of_rows(len(entity), size, None)


def _blocks(entity: Tensor, relation: Tensor) -> list[slice]:
    size = max(1, numbers_at_a_time(_BLOCK_NUMBERS, entity.device) // (entity.shape[1] * relation.shape[1]))
    return blocks_of_rows(len(entity), size, None)


def _outer(entity: Float[Tensor, "b E"], relation: Float[Tensor, "b R"]) -> Float[Tensor, "b O"]:
    return (entity[:, :, None] * relation[:, None]).flatten(1)
