"""Differentiable scores of queries with candidate rows: by compiled kernels, matrix products, or plain torch."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.lookup import Lookup
from embedding.scoring.candidate_blocks import by_chunk, in_blocks
from embedding.scoring.candidates import Candidates
from graph.errors import InputError
from kernels.euclidean import euclidean_gradients, euclidean_scores
from kernels.gpu.available import usable_on_gpu
from kernels.library import usable
from kernels.pairs import Comparison, pair_scores, query_gradient
from kernels.precision import Precision, lowered, multiplied
from kernels.row_sources import PairGradient


def precision_of(name: str) -> Precision:
    """What the factors of matrix products with shared candidates are rounded to while training.

    Raises:
        InputError: there is no precision of this name.
    """
    try:
        return Precision(name)
    except ValueError as error:
        raise InputError(f"precision must be one of {', '.join(Precision)}, got {name!r}") from error


def inner_products(query: Float[Tensor, "B E"], candidates: Candidates, precision: Precision) -> Float[Tensor, "B N"]:
    """The inner product of each query with each candidate of its chunk."""
    if candidates.shared_by(len(query)):
        rows, used = candidates.rows(), _while_training(precision)
        return cast(Tensor, _Products.apply(by_chunk(query, len(rows)), rows, used)).flatten(0, 1)
    if usable(query) or usable_on_gpu(query):
        return _in_place(Comparison.DOT, query, candidates)
    rows = candidates.rows()
    return (by_chunk(query, len(rows)) @ rows.transpose(1, 2)).flatten(0, 1)


def minus_l1(query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
    """Minus the L1 distance of each query to each candidate of its chunk."""
    if usable(query) or usable_on_gpu(query):
        return _in_place(Comparison.L1, query, candidates)
    rows = candidates.rows()
    return -torch.cdist(by_chunk(query, len(rows)), rows, p=1).flatten(0, 1)


def minus_l2(query: Float[Tensor, "B E"], candidates: Candidates, precision: Precision) -> Float[Tensor, "B N"]:
    """Minus the L2 distance; accurate also if the distance is much smaller than the norms."""
    if usable(query):
        if not candidates.shared_by(len(query)):
            return _in_place(Comparison.L2, query, candidates)
        rows = candidates.rows()
        used = _while_training(precision)
        return cast(Tensor, _Euclidean.apply(by_chunk(query, len(rows)), rows, used)).flatten(0, 1)
    rounded = _while_training(precision) != Precision.FLOAT32
    if usable_on_gpu(query) and not rounded:
        return _in_place(Comparison.L2, query, candidates)
    if rounded:
        square = query.square().sum(1)[:, None] - 2 * inner_products(query, candidates, precision)
        square = square + candidates.rows().square().sum(2).repeat_interleave(len(query) // len(candidates.place), 0)
        return -square.clamp(min=1e-6).sqrt()  # at least 1e-6: the square root has no finite gradient at 0
    # The fast way expands the square. Its error is the root of the rounding error: in float32 as large as the distance
    # of a good triple. In float64 it is below the rounding of float32, and still faster than summing differences.
    rows = candidates.rows().double()
    return -torch.cdist(by_chunk(query.double(), len(rows)), rows).flatten(0, 1).to(query.dtype)


def minus_modulus(query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
    """Minus the sum of the moduli of the complex differences. Rows hold all real parts, then all imaginary parts."""
    if usable(query) or usable_on_gpu(query):
        return _in_place(Comparison.MODULUS, query, candidates)
    return in_blocks(lambda q, c: -modulus_sum(q[:, :, None] - c[:, None]), (query,), candidates)


def modulus_sum(difference: Float[Tensor, "*b E"]) -> Float[Tensor, "*b"]:
    """The sum of the moduli of complex numbers, given as all real parts, then all imaginary parts."""
    # vector_norm, unlike a square root, has gradient 0 where a coordinate agrees exactly.
    return torch.linalg.vector_norm(torch.stack(difference.chunk(2, dim=-1)), dim=0).sum(-1)


def _while_training(precision: Precision) -> Precision:
    """The precision of products: none is rounded in ranking, where that would cause ties."""
    return precision if torch.is_grad_enabled() else Precision.FLOAT32


def _in_place(kind: Comparison, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
    lookup = candidates.lookup
    return cast(Tensor, _Pairs.apply(lookup.handle, query.contiguous(), kind, lookup, candidates.place.contiguous()))


class _Pairs(torch.autograd.Function):
    """Scores without copying candidate rows. Backward adds a `PairGradient` to the look-up, which computes it later."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, handle: Tensor, query: Tensor, kind: Comparison, lookup: Lookup, place: Tensor
    ) -> Tensor:
        score = pair_scores(kind, query, lookup.rows, place)
        ctx.save_for_backward(query, score)
        ctx.compared = kind, lookup, place  # pyright: ignore[reportAttributeAccessIssue]
        return score

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        coefficient = gradient[0].contiguous()
        query, score = (each.detach() for each in ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]
        kind, lookup, place = ctx.compared  # pyright: ignore[reportAttributeAccessIssue]
        lookup.add(PairGradient(place, kind, coefficient, score, query))
        by_query = query_gradient(kind, query, lookup.rows, place, coefficient, score)
        return lookup.handle.new_zeros(0), by_query, None, None, None


class _Products(torch.autograd.Function):
    """One matrix product for each chunk, forward and backward, with rounded factors."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, rows: Tensor, precision: Precision) -> Tensor:
        given = query.dtype
        query, rows = lowered(query, precision), lowered(rows, precision)
        ctx.save_for_backward(query, rows)
        ctx.precision = precision  # pyright: ignore[reportAttributeAccessIssue]
        return multiplied(query, rows.transpose(1, 2), precision).to(given)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        query, rows = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        precision: Precision = ctx.precision  # pyright: ignore[reportAttributeAccessIssue]
        given, coefficient = gradient[0].dtype, lowered(gradient[0], precision)
        by_query = multiplied(coefficient, rows, precision)
        by_rows = multiplied(coefficient.transpose(1, 2), query, precision)
        return by_query.to(given), by_rows.to(given), None


class _Euclidean(torch.autograd.Function):
    """Minus the L2 distance by one matrix product for each chunk, with rounded factors."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, rows: Tensor, precision: Precision) -> Tensor:
        query = query.contiguous()
        factors = lowered(query, precision), lowered(rows, precision).transpose(1, 2)
        product = multiplied(*factors, precision).to(query.dtype)
        score = euclidean_scores(product, query, rows)
        ctx.save_for_backward(query, rows, score)
        ctx.precision = precision  # pyright: ignore[reportAttributeAccessIssue]
        return score

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        query, rows, score = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        precision: Precision = ctx.precision  # pyright: ignore[reportAttributeAccessIssue]
        return *euclidean_gradients(gradient[0].contiguous(), score, query, rows, precision), None
