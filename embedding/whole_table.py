"""Sums over the scores of all entities, for each query of a batch. Losses over the whole table use them.

Each rank gets the queries of all ranks, scores them with its own rows, block by block, and sends each query's partial
sum back to the query's rank. So rows are not sent, and at most (queries x block) scores are in memory. With replicated
rows, a rank scores its own queries with all rows, and sends nothing. Every function is Collective: all ranks must call
it, also a rank without queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.exchange import gather_ranks, return_to_ranks
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from embedding.table_queries import Answers, SideOfAllRanks, queries_of_all_ranks
from graph.batch import Batch
from kernels import score_sums
from kernels.block_sizes import rows_at_a_time
from kernels.row_gradient import RowGradient

_BLOCK_ROWS = 1024
"""Entities in a block on a CPU: few enough for the scores to stay in its cache."""


def log_sum_exp(model: KGEModel, batch: Batch, excluded: Answers | None = None) -> Float64[Tensor, " B"]:
    """log sum_e exp s(query, e) over all entities e except the excluded, differentiable; some entity must be left."""
    return _reduce(model, batch, _LogSumExp(), excluded)


def sum_softplus(model: KGEModel, batch: Batch, margin: float) -> Float64[Tensor, " B"]:
    """sum_e softplus(margin + s(query, e)) over all entities e, differentiable."""
    return _reduce(model, batch, _SumSoftplus(margin))


def sum_scores(model: KGEModel, batch: Batch) -> Float64[Tensor, " B"]:
    """sum_e s(query, e) over all entities e, differentiable."""
    return _reduce(model, batch, _SumScores())


class _Reduction(ABC):
    """Reduces the scores of all entities to one number for each query."""

    @abstractmethod
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        """The number of each query over the n entities of a block."""

    @abstractmethod
    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        """The number over the whole table, from those over P parts of it."""

    @abstractmethod
    def slope(
        self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"], weight: Float64[Tensor, " Q"]
    ) -> Float[Tensor, "Q n"]:
        """The derivative of the sum of weight * result with respect to each score."""


class _LogSumExp(_Reduction):
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return score_sums.log_sum_exp(score)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.logsumexp(0)

    def slope(
        self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"], weight: Float64[Tensor, " Q"]
    ) -> Float[Tensor, "Q n"]:
        return score_sums.log_sum_exp_slope(score, result, weight)


@dataclass(frozen=True)
class _SumSoftplus(_Reduction):
    margin: float

    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return score_sums.sum_softplus(score, self.margin)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.sum(0)

    def slope(
        self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"], weight: Float64[Tensor, " Q"]
    ) -> Float[Tensor, "Q n"]:
        return score_sums.sum_softplus_slope(score, weight, self.margin)


class _SumScores(_Reduction):
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return score.sum(1, dtype=torch.float64)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.sum(0)

    def slope(
        self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"], weight: Float64[Tensor, " Q"]
    ) -> Float[Tensor, "Q n"]:
        return weight[:, None].to(score.dtype).expand_as(score)


def _reduce(
    model: KGEModel, batch: Batch, reduction: _Reduction, excluded: Answers | None = None
) -> Float64[Tensor, " B"]:
    query = model.made_queries(batch)
    if query is not None:
        # A vector for each query, and no relation; all are compared alike, as if they asked for tails.
        return cast(Tensor, _Reduce.apply(query, query.new_empty((len(query), 0)), 0, True, model, reduction, excluded))
    anchor, relation, heads = model.query_rows(batch)
    dense = list(model.scoring.parameters())
    # The backward of `_Reduce` exchanges data between ranks. DDP does too, as soon as some parameters have their
    # gradients. Both happen in the same order on all ranks only if no gradient is complete before this backward. So
    # every parameter must be an input of `_Reduce`, or an input of the queries that are.
    assert {id(each) for each in (*dense, model.scorer.relation)} == {id(each) for each in model.scorer.parameters()}
    return cast(Tensor, _Reduce.apply(anchor, relation, heads, False, model, reduction, excluded, *dense))


class _Reduce(torch.autograd.Function):
    """Forward keeps one number for each query; backward scores the blocks again."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        anchor: Tensor,
        relation: Tensor,
        heads: int,
        made: bool,
        model: KGEModel,
        reduction: _Reduction,
        excluded: Answers | None,
        *dense: Tensor,
    ) -> Tensor:
        sides = queries_of_all_ranks(model, anchor, relation, heads, excluded)
        results = []
        for side in sides:
            score = _scorer(model, side, made=made)
            parts = [
                reduction.of_block(side.without_excluded(score(Candidates.of(rows[None])), first))
                for first, rows in _blocks(model, side)
            ]
            here = reduction.merge(torch.stack(parts)) if parts else _nothing(reduction, side, anchor)
            results.append(reduction.merge(return_to_ranks(list(here.split(side.sizes)), model.site.part[0])))
        result = torch.cat(results)
        # Backward reads the table and the dense parameters again. Saved here, autograd raises an error if they changed.
        ctx.save_for_backward(result, model.entity.readable, *dense)
        ctx.chosen = sides, heads, made, model, reduction  # pyright: ignore[reportAttributeAccessIssue]
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        result, _, *dense = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        sides, heads, made, model, reduction = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        rank, ranks = model.site.part
        sizes = [heads, len(result) - heads]
        by_anchor, by_relation, by_dense = [], [], [torch.zeros_like(each) for each in dense]
        for side, weight, known in zip(sides, given[0].split(sizes), result.split(sizes), strict=True):
            weight, known = (torch.cat(gather_ranks(each, ranks)) for each in (weight, known))
            queries = _Differentiated(model, side, dense, made=made)
            for first, rows in _blocks(model, side):
                queries.add(
                    first,
                    rows,
                    lambda score, s=side, f=first, k=known, w=weight: reduction.slope(
                        s.without_excluded(score, f), k, w
                    ),
                )
            gradient = queries.gradient()
            for mine, back in zip(gradient[:2], (by_anchor, by_relation), strict=True):
                back.append(return_to_ranks(list(mine.split(side.sizes)), rank).sum(0))
            for total, each in zip(by_dense, gradient[2:], strict=True):
                total += each
        dtype = model.site.dtype
        return torch.cat(by_anchor).to(dtype), torch.cat(by_relation).to(dtype), *[None] * 5, *by_dense


class _Differentiated:
    """Queries of one side, and the sum of their gradients over blocks of the table."""

    def __init__(self, model: KGEModel, side: SideOfAllRanks, dense: Sequence[Tensor], *, made: bool) -> None:
        self.model = model
        rows = [torch.cat(each).detach().requires_grad_() for each in (side.anchor, side.relation)]
        self.inputs = [*rows, *dense]
        with torch.enable_grad():
            scoring = model.scoring
            self.query, self.leaves = None, self.inputs
            if isinstance(scoring, QueryScoring) and not made:
                self.query = scoring.query(*rows, of_heads=side.of_heads)
            if isinstance(scoring, QueryScoring) and self.query is not None:
                # Blocks are compared with one vector for each query; the comparison may have learned weights too.
                self.leaves = [self.query.detach().requires_grad_(), *dense]
                self.score: Callable[[Candidates], Tensor] = partial(scoring.compare, self.leaves[0])
            elif made:
                assert isinstance(scoring, QueryScoring)
                self.score = partial(scoring.compare, rows[0])
            else:
                self.score = scoring.scorer(*rows, of_heads=side.of_heads)
        self.total = [torch.zeros_like(each, dtype=torch.float64) for each in self.leaves]

    def add(self, first: int, rows: Float[Tensor, "n E"], weigh: Callable[[Tensor], Tensor]) -> None:
        """Adds the part of a block to the queries' gradient, and gives the table the gradient of the block's rows.

        Args:
            first: the number of the block's first row among those that this rank reads.
            rows: the rows of the block.
            weigh: maps the scores of the block to the gradient with respect to these scores.
        """
        with torch.enable_grad():
            candidates = rows.detach().requires_grad_()
            score = self.score(Candidates.of(candidates[None]))
        *parts, by_row = torch.autograd.grad(
            score,
            [*self.leaves, candidates],
            weigh(score.detach()),
            retain_graph=True,
            allow_unused=True,
        )
        for total, part in zip(self.total, parts, strict=True):
            if part is not None:
                total += part
        if by_row is None:  # a model whose rows are no vectors
            return
        row = torch.arange(first, first + len(rows), device=rows.device)
        self.model.entity.add_own_gradient(RowGradient(row, by_row.double()))

    def gradient(self) -> list[Tensor]:
        """The gradients with respect to anchor rows, relation rows and dense parameters, in float64."""
        if self.query is None:
            return self.total
        by_query, *by_dense = self.total
        parts = torch.autograd.grad(self.query, self.inputs, by_query.to(self.query.dtype), allow_unused=True)
        pairs = zip(parts, self.inputs, strict=True)
        found = [torch.zeros_like(each).double() if part is None else part.double() for part, each in pairs]
        for total, each in zip(found[2:], by_dense, strict=True):  # parts from making the queries and from comparing
            total += each
        return found


def _scorer(model: KGEModel, side: SideOfAllRanks, *, made: bool) -> Callable[[Candidates], Tensor]:
    """Scores the queries of all ranks with blocks of rows; of queries that are made, `side.anchor` has the vectors."""
    anchor, scoring = torch.cat(side.anchor), model.scoring
    if made:
        assert isinstance(scoring, QueryScoring)
        return scoring.comparer(anchor)
    return scoring.scorer(anchor, torch.cat(side.relation), of_heads=side.of_heads)


def _blocks(model: KGEModel, side: SideOfAllRanks) -> Iterator[tuple[int, Float[Tensor, "n E"]]]:
    return model.entity.readable_blocks(rows_at_a_time(_BLOCK_ROWS, model.site.device, sum(side.sizes)))


def _nothing(reduction: _Reduction, side: SideOfAllRanks, like: Tensor) -> Float64[Tensor, " Q"]:
    """The part of a rank that has no rows: the reduction over no entities."""
    return reduction.of_block(like.new_empty((sum(side.sizes), 0)))
