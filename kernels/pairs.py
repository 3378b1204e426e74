"""Scores of queries with candidate rows read directly from the table, and gradients by the query (pairs.cpp)."""

from enum import StrEnum

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call, type_name
from kernels.shapes import expect_shape, per_chunk


class Comparison(StrEnum):
    """How two rows are compared; a score is higher for rows that are closer."""

    DOT = "dot"
    """Their inner product."""
    L1 = "l1"
    """Minus the sum of absolute differences."""
    L2 = "l2"
    """Minus the Euclidean distance."""
    MODULUS = "modulus"
    """Minus the sum of complex moduli of differences; a row has all real parts first."""

    @property
    def number(self) -> int:
        """Its number in pairs.h."""
        return list(Comparison).index(self)


def pair_scores(
    kind: Comparison, query: Float[Tensor, "B E"], rows: Float[Tensor, "U E"], place: Int64[Tensor, "C N"]
) -> Float[Tensor, "B N"]:
    """The scores of each query with rows[place] of its chunk; the B queries form C equal chunks."""
    (chunks, candidates), (queries, width) = place.shape, query.shape
    expect_shape("rows", rows, len(rows), width)
    sizes = chunks, per_chunk(queries, chunks), candidates, width
    if usable_on_gpu(query, rows):
        import kernels.gpu.pairs as gpu

        return gpu.pair_scores(kind, query, rows, place)
    out = query.new_empty((queries, candidates))
    call(f"pair_scores_{kind}_{type_name(query)}", query, rows, place, out, *sizes, torch.get_num_threads())
    return out


def query_gradient(
    kind: Comparison,
    query: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, "C N"],
    coefficient: Float[Tensor, "B N"],
    score: Float[Tensor, "B N"],
) -> Float[Tensor, "B E"]:
    """The gradient by each query of the sum of coefficient * score."""
    (chunks, candidates), (queries, width) = place.shape, query.shape
    expect_shape("rows", rows, len(rows), width)
    expect_shape("coefficient", coefficient, queries, candidates)
    expect_shape("score", score, queries, candidates)
    sizes = chunks, per_chunk(queries, chunks), candidates, width
    if usable_on_gpu(query, rows):
        import kernels.gpu.pairs as gpu

        return gpu.query_gradient(kind, query, rows, place, coefficient, score)
    out = torch.empty_like(query)
    name = f"query_gradient_{kind}_{type_name(query)}"
    call(name, query, rows, place, coefficient, score, out, *sizes, torch.get_num_threads())
    return out
