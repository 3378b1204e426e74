"""Euclidean distances from a matrix product, accurate for close rows too (euclidean.cpp)."""

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.library import call, type_name
from kernels.precision import Precision, lowered, multiplied
from kernels.shapes import expect_shape


def euclidean_scores(
    product: Float[Tensor, "C S N"], query: Float[Tensor, "C S E"], candidate: Float[Tensor, "C N E"]
) -> Float[Tensor, "C S N"]:
    """Overwrites the inner products in `product` with minus the Euclidean distances and returns it."""
    _expect_pairs(product, query, candidate)
    squares = query.square().sum(2), candidate.square().sum(2)
    sizes = *product.shape, query.shape[2], torch.get_num_threads()
    call(f"euclidean_scores_{type_name(query)}", product, query, candidate, *squares, *sizes)
    return product


def euclidean_gradients(
    coefficient: Float[Tensor, "C S N"],
    score: Float[Tensor, "C S N"],
    query: Float[Tensor, "C S E"],
    candidate: Float[Tensor, "C N E"],
    precision: Precision,
) -> tuple[Float[Tensor, "C S E"], Float[Tensor, "C N E"]]:
    """Gradients by query and candidate of the sum of coefficient * score; factors of matrix products are rounded."""
    _expect_pairs(score, query, candidate)
    expect_shape("coefficient", coefficient, *score.shape)
    squares = query.square().sum(2), candidate.square().sum(2)
    weight, query_sum = torch.empty_like(score), torch.empty_like(squares[0])
    name, threads = type_name(query), torch.get_num_threads()
    call(f"euclidean_weights_{name}", coefficient, score, *squares, weight, query_sum, *score.shape, threads)
    factor = lowered(weight, precision)
    by_query = multiplied(factor, lowered(candidate, precision), precision).to(query.dtype)
    by_candidate = multiplied(factor.transpose(1, 2), lowered(query, precision), precision).to(query.dtype)
    given = coefficient, score, weight, query, candidate, *squares, query_sum
    sizes = *score.shape, query.shape[2], threads
    call(f"euclidean_gradients_{name}", *given, by_query, by_candidate, *sizes)
    return by_query, by_candidate


def _expect_pairs(score: Tensor, query: Tensor, candidate: Tensor) -> None:
    chunks, queries, width = query.shape
    expect_shape("candidate", candidate, chunks, candidate.shape[1], width)
    expect_shape("score", score, chunks, queries, candidate.shape[1])
