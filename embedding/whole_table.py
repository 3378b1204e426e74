"""Every entity as an answer to every query of a batch, a block of the table at a time, whichever rank has the rows.

Queries travel and rows stay: each rank compares the queries of the whole global batch with its own block of the table,
and what it made of them goes back to whoever asked. Nothing here holds more scores than queries times a block. Every
function is Collective, also for a rank without queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import softplus

from embedding.exchange import gather_ranks, return_to_ranks
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from embedding.scoring.scoring import QueryScoring
from graph.batch import Batch
from graph.counter_random import combine, paired_uniform, stream
from kernels.rows import RowGradient

_BLOCK_ROWS = 1024
"""Entities compared at a time: few enough for the scores to stay in the processor's cache."""


Answers = tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]
"""Entities of queries, as (row of the batch, entity): see `KnownTriples.answers`."""


def log_sum_exp(model: KGEModel, batch: Batch, excluded: Answers | None = None) -> Float64[Tensor, " B"]:
    """log sum_e exp s(query, e) over all entities e but those excluded, which are not all; differentiable."""
    return _reduce(model, batch, _LogSumExp(), excluded)


def sum_softplus(model: KGEModel, batch: Batch, margin: float) -> Float64[Tensor, " B"]:
    """sum_e softplus(margin + s(query, e)) over all entities e, differentiable."""
    return _reduce(model, batch, _SumSoftplus(margin))


def sum_scores(model: KGEModel, batch: Batch) -> Float64[Tensor, " B"]:
    """sum_e s(query, e) over all entities e, differentiable."""
    return _reduce(model, batch, _SumScores())


@torch.no_grad()
def draw_entities(
    model: KGEModel, batch: Batch, count: int, purpose: str, excluded: Answers | None = None
) -> Int64[Tensor, "B {count}"]:
    """Entities drawn without replacement from the softmax of their scores over the whole table.

    The excluded are drawn only where there are not enough others.

    By the Gumbel-top-k trick (Kool et al., Stochastic beams and where to find them, ICML 2019): in the order of the
    draws, so that the first alone is one draw from the softmax. The random numbers are a function of (purpose, seed,
    epoch, chunk) and of the row that placement gives an entity.
    """
    key = stream(purpose, batch.seed, batch.epoch)
    anchor, relation, heads = model.query_rows(batch)
    ranks, rank = model.site.world_size, model.site.rank
    slot = torch.arange(batch.chunk_size, device=batch.chunk.device)
    counter = combine(batch.chunk[:, None], slot).flatten()
    found = []
    sizes = [heads, len(anchor) - heads]
    for side, mine in zip(_sides(model, anchor, relation, heads, excluded), counter.split(sizes), strict=True):
        counters = torch.cat(gather_ranks(mine, ranks))
        score = model.scoring.scorer(torch.cat(side.anchor), torch.cat(side.relation), of_heads=side.of_heads)
        best = _Best.none(len(counters), anchor.device)
        for first, last in _aligned(model):
            value = side.without_excluded(score(Candidates.of(model.entity.weight[first:last][None])), first).double()
            value += _gumbel(model, key, counters, first, last)
            best = best.joined(_Best(model.entity.entity[first:last].expand(value.shape), value), count)
        parts = [return_to_ranks(list(each.split(side.sizes)), rank) for each in best.filled(count)]
        entity, value = (part.transpose(0, 1).flatten(1) for part in parts)
        found.append(_Best(entity, value).joined(_Best.none(len(mine), anchor.device), count).entity)
    return torch.cat(found)


class _Reduction(ABC):
    """Makes one number a query of the scores of all entities."""

    @abstractmethod
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]: ...

    @abstractmethod
    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        """Of parts of the table, that of the whole."""

    @abstractmethod
    def slope(self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"]) -> Float[Tensor, "Q n"]:
        """The derivative of the result by each score."""


class _LogSumExp(_Reduction):
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return score.double().logsumexp(1)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.logsumexp(0)

    def slope(self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"]) -> Float[Tensor, "Q n"]:
        return (score - result[:, None].to(score.dtype)).exp()


@dataclass(frozen=True)
class _SumSoftplus(_Reduction):
    margin: float

    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return softplus(self.margin + score).sum(1, dtype=torch.float64)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.sum(0)

    def slope(self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"]) -> Float[Tensor, "Q n"]:
        return (self.margin + score).sigmoid()


class _SumScores(_Reduction):
    def of_block(self, score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
        return score.sum(1, dtype=torch.float64)

    def merge(self, part: Float64[Tensor, "P Q"]) -> Float64[Tensor, " Q"]:
        return part.sum(0)

    def slope(self, score: Float[Tensor, "Q n"], result: Float64[Tensor, " Q"]) -> Float[Tensor, "Q n"]:
        return torch.ones_like(score)


@dataclass(frozen=True)
class _Excluded:
    """Pairs of a query and a row of this rank's block that are not to be compared, by row."""

    query: Int64[Tensor, " K"]
    row: Int64[Tensor, " K"]

    @classmethod
    def of(cls, model: KGEModel, answers: list[Int64[Tensor, "K 2"]], sizes: list[int]) -> "_Excluded":
        """From each rank's answers to its own queries, of which there are so many."""
        first = [sum(sizes[:rank]) for rank in range(len(sizes))]
        query = torch.cat([each[:, 0] + start for each, start in zip(answers, first, strict=True)])
        row = model.entity.row_of_entity[torch.cat([each[:, 1] for each in answers])]
        row = row - model.site.placement.block(model.site.rank, model.site.world_size)[0]
        row, order = row.sort()
        return cls(query[order], row)

    def out_of(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """Scores of a block of rows, minus infinity for these pairs."""
        bounds = self.row.new_tensor([first, first + score.shape[1]])
        start, stop = torch.searchsorted(self.row, bounds).tolist()
        return score.index_put((self.query[start:stop], self.row[start:stop] - first), score.new_tensor(-torch.inf))


@dataclass(frozen=True)
class _Side:
    """The queries of all ranks for one side: their rows, by rank."""

    of_heads: bool
    anchor: list[Tensor]
    relation: list[Tensor]
    excluded: _Excluded | None

    def without_excluded(self, score: Float[Tensor, "Q n"], first: int) -> Float[Tensor, "Q n"]:
        """Scores of the block of rows that begins with `first`."""
        return score if self.excluded is None else self.excluded.out_of(score, first)

    @property
    def sizes(self) -> list[int]:
        return [len(each) for each in self.anchor]


def _sides(
    model: KGEModel, anchor: Tensor, relation: Tensor, heads: int, excluded: Answers | None = None
) -> list[_Side]:
    """Heads' queries, then tails', or one group of both where the model asks for tails alone."""
    ranks = model.site.world_size
    sizes = [heads, len(anchor) - heads]
    sides = []
    for of_heads, a, r in zip((True, False), anchor.split(sizes), relation.split(sizes), strict=True):
        anchors, answers = gather_ranks(a, ranks), None
        if excluded is not None:
            row, entity = excluded
            mine = (row < heads) == of_heads
            pairs = torch.stack([row[mine] - (0 if of_heads else heads), entity[mine]], dim=1)
            answers = _Excluded.of(model, gather_ranks(pairs, ranks), [len(each) for each in anchors])
        sides.append(_Side(of_heads, anchors, gather_ranks(r, ranks), answers))
    return sides


def _reduce(
    model: KGEModel, batch: Batch, reduction: _Reduction, excluded: Answers | None = None
) -> Float64[Tensor, " B"]:
    anchor, relation, heads = model.query_rows(batch)
    dense = list(model.scoring.parameters())
    # Backward exchanges, and so does DDP once it has the gradients of some parameters. All ranks do both in one order
    # only if no gradient is complete before the backward of `_Reduce`: if each parameter is an input of it.
    assert {id(each) for each in (*dense, model.scorer.relation)} == {id(each) for each in model.scorer.parameters()}
    return cast(Tensor, _Reduce.apply(anchor, relation, heads, model, reduction, excluded, *dense))


class _Reduce(torch.autograd.Function):
    """Backward scores the blocks again, so that only one number a query is kept."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        anchor: Tensor,
        relation: Tensor,
        heads: int,
        model: KGEModel,
        reduction: _Reduction,
        excluded: Answers | None,
        *dense: Tensor,
    ) -> Tensor:
        sides = _sides(model, anchor, relation, heads, excluded)
        results = []
        for side in sides:
            score = model.scoring.scorer(torch.cat(side.anchor), torch.cat(side.relation), of_heads=side.of_heads)
            parts = [
                reduction.of_block(side.without_excluded(score(Candidates.of(rows[None])), first))
                for first, rows in _blocks(model)
            ]
            here = reduction.merge(torch.stack(parts)) if parts else _nothing(reduction, side, anchor)
            results.append(reduction.merge(return_to_ranks(list(here.split(side.sizes)), model.site.rank)))
        result = torch.cat(results)
        # Backward reads the table and dense parameters again: autograd refuses that if they have changed.
        ctx.save_for_backward(result, model.entity.weight, *dense)
        ctx.chosen = sides, heads, model, reduction  # pyright: ignore[reportAttributeAccessIssue]
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        result, _, *dense = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        sides, heads, model, reduction = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        ranks, rank = model.site.world_size, model.site.rank
        sizes = [heads, len(result) - heads]
        by_anchor, by_relation, by_dense = [], [], [torch.zeros_like(each) for each in dense]
        for side, weight, known in zip(sides, given[0].split(sizes), result.split(sizes), strict=True):
            weight, known = (torch.cat(gather_ranks(each, ranks)) for each in (weight, known))
            queries = _Differentiated(model, side, dense)
            for first, rows in _blocks(model):
                queries.add(
                    first,
                    rows,
                    lambda score, s=side, f=first, w=weight, k=known: (
                        w[:, None] * reduction.slope(s.without_excluded(score, f), k)
                    ),
                )
            gradient = queries.gradient()
            for mine, back in zip(gradient[:2], (by_anchor, by_relation), strict=True):
                back.append(return_to_ranks(list(mine.split(side.sizes)), rank).sum(0))
            for total, each in zip(by_dense, gradient[2:], strict=True):
                total += each
        dtype = model.site.dtype
        return torch.cat(by_anchor).to(dtype), torch.cat(by_relation).to(dtype), None, None, None, None, *by_dense


class _Differentiated:
    """Queries whose gradient is added up over blocks of the table."""

    def __init__(self, model: KGEModel, side: _Side, dense: Sequence[Tensor]) -> None:
        self.model = model
        rows = [torch.cat(each).detach().requires_grad_() for each in (side.anchor, side.relation)]
        self.inputs = [*rows, *dense]
        with torch.enable_grad():
            scoring = model.scoring
            self.query, self.leaves = None, self.inputs
            if isinstance(scoring, QueryScoring):
                self.query = scoring.query(*rows, of_heads=side.of_heads)
            if isinstance(scoring, QueryScoring) and self.query is not None:
                # One vector a query is what blocks are compared with, perhaps with weights that are learned.
                self.leaves = [self.query.detach().requires_grad_(), *dense]
                self.score: Callable[[Candidates], Tensor] = partial(scoring.compare, self.leaves[0])
            else:
                self.score = scoring.scorer(*rows, of_heads=side.of_heads)
        self.total = [torch.zeros_like(each, dtype=torch.float64) for each in self.leaves]

    def add(self, first: int, rows: Float[Tensor, "n E"], weigh: Callable[[Tensor], Tensor]) -> None:
        """Adds a block's part, and gives the table the gradient of the block's rows."""
        with torch.enable_grad():
            candidates = rows.detach().requires_grad_()
            score = self.score(Candidates.of(candidates[None]))
        *parts, by_row = torch.autograd.grad(
            score,
            [*self.leaves, candidates],
            weigh(score.detach()).to(score.dtype),
            retain_graph=True,
            allow_unused=True,
        )
        for total, part in zip(self.total, parts, strict=True):
            if part is not None:
                total += part
        row = torch.arange(first, first + len(rows), device=rows.device)
        self.model.entity.add_own_gradient(RowGradient(row, by_row.double()))

    def gradient(self) -> list[Tensor]:
        """By the rows of anchors and relations and by dense parameters, in float64."""
        if self.query is None:
            return self.total
        by_query, *by_dense = self.total
        parts = torch.autograd.grad(self.query, self.inputs, by_query.to(self.query.dtype), allow_unused=True)
        pairs = zip(parts, self.inputs, strict=True)
        found = [torch.zeros_like(each).double() if part is None else part.double() for part, each in pairs]
        for total, each in zip(found[2:], by_dense, strict=True):  # what learned in queries, and in comparing them
            total += each
        return found


def _blocks(model: KGEModel) -> Iterator[tuple[int, Float[Tensor, "n E"]]]:
    return model.entity.blocks(_BLOCK_ROWS)


def _nothing(reduction: _Reduction, side: _Side, like: Tensor) -> Float64[Tensor, " Q"]:
    """What a rank without rows has to say of each query."""
    return reduction.of_block(like.new_empty((sum(side.sizes), 0)))


@dataclass(frozen=True)
class _Best:
    """The entities of highest value seen so far, best first."""

    entity: Int64[Tensor, "Q k"]
    value: Float64[Tensor, "Q k"]

    @classmethod
    def none(cls, queries: int, device: torch.device) -> "_Best":
        nothing = torch.empty((queries, 0), dtype=torch.float64, device=device)
        return cls(nothing.long(), nothing)

    def joined(self, other: "_Best", count: int) -> "_Best":
        entity = torch.cat([self.entity, other.entity], dim=1)
        value = torch.cat([self.value, other.value], dim=1)
        value, place = value.topk(min(count, value.shape[1]), dim=1)
        return _Best(entity.gather(1, place), value)

    def filled(self, count: int) -> list[Tensor]:
        """The same number of columns on every rank, however few rows it has; what fills them up is never chosen."""
        missing = (0, count - self.entity.shape[1])
        pad = torch.nn.functional.pad
        return [pad(self.entity, missing), pad(self.value, missing, value=-torch.inf)]


def _aligned(model: KGEModel) -> Iterator[tuple[int, int]]:
    """This rank's rows, cut where the whole table's blocks begin, as [first, last) of its own block of rows."""
    start, stop = model.site.placement.block(model.site.rank, model.site.world_size)
    cuts = [start, *range(start - start % _BLOCK_ROWS + _BLOCK_ROWS, stop, _BLOCK_ROWS), stop]
    return ((first - start, last - start) for first, last in pairwise(cuts) if first < last)


def _gumbel(model: KGEModel, key: int, counter: Int64[Tensor, " Q"], first: int, last: int) -> Float64[Tensor, "Q n"]:
    """Noise of each (query, row of the whole table)."""
    start = model.site.placement.block(model.site.rank, model.site.world_size)[0] + first
    block, place = divmod(start, _BLOCK_ROWS)
    outer = combine(counter, torch.tensor(block, device=counter.device))
    uniform = paired_uniform(key, outer, _BLOCK_ROWS)[:, place : place + last - first]
    return -(-uniform.log()).log()
