"""Computes queries from entity and relation rows read directly from the tables, and their gradients (queries.cpp)."""

from enum import StrEnum

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call, type_name
from kernels.rows import group_rows
from kernels.shapes import expect_shape

HeadRows = int | Int64[Tensor, ""]
"""How many queries, the first ones, ask for the head. For kernels of a GPU it may be a tensor there."""


class Combination(StrEnum):
    """How an entity row and a relation row are combined into a query."""

    TRANSLATION = "translation"
    """h + r for tails, t - r for heads."""
    PRODUCT = "product"
    """h * r, t * r."""
    ROTATION = "rotation"
    """h * r, t * conj(r), of complex numbers: all real parts first."""


def make_queries(
    kind: Combination,
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, " B"],
    relations: Float[Tensor, "R E"],
    relation: Int64[Tensor, " B"],
    head_rows: HeadRows,
) -> Float[Tensor, "B E"]:
    """A query from each rows[place] and relations[relation]; the first `head_rows` queries ask for the head."""
    expect_shape("relations", relations, len(relations), rows.shape[1])
    expect_shape("relation", relation, len(place))
    if usable_on_gpu(rows):
        import kernels.gpu.queries as gpu

        return gpu.make_queries(kind, rows, place, relations, relation, head_rows)
    out = rows.new_empty((len(place), rows.shape[1]))
    sizes = *out.shape[:1], head_rows, rows.shape[1], torch.get_num_threads()
    call(f"make_queries_{kind}_{type_name(rows)}", rows, place, relations, relation, out, *sizes)
    return out


def entity_gradient(
    kind: Combination,
    gradient: Float[Tensor, "B E"],
    relations: Float[Tensor, "R E"],
    relation: Int64[Tensor, " B"],
    head_rows: HeadRows,
) -> Float[Tensor, "B E"]:
    """The gradient by each query's entity row."""
    if kind == Combination.TRANSLATION:
        return gradient
    expect_shape("relations", relations, len(relations), gradient.shape[1])
    expect_shape("relation", relation, len(gradient))
    if usable_on_gpu(gradient):
        import kernels.gpu.queries as gpu

        return gpu.entity_gradient(kind, gradient, relations, relation, head_rows)
    out = torch.empty_like(gradient)
    sizes = len(out), head_rows, out.shape[1], torch.get_num_threads()
    call(f"entity_gradient_{kind}_{type_name(gradient)}", gradient, relations, relation, out, *sizes)
    return out


def relation_gradient(
    kind: Combination,
    gradient: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, " B"],
    relation: Int64[Tensor, " B"],
    num_relations: int,
    head_rows: HeadRows,
) -> Float64[Tensor, "R E"]:
    """The gradient by each relation row, summed over its queries in float64."""
    expect_shape("gradient", gradient, len(place), rows.shape[1])
    expect_shape("relation", relation, len(place))
    if usable_on_gpu(gradient):
        import kernels.gpu.queries as gpu

        return gpu.relation_gradient(kind, gradient, rows, place, relation, num_relations, head_rows)
    out = torch.zeros((num_relations, rows.shape[1]), dtype=torch.float64)
    row, order, begin = group_rows(relation, num_relations)
    given = gradient, rows, place, row, order, begin
    sizes = len(row), head_rows, rows.shape[1]
    call(f"relation_gradient_{kind}_{type_name(gradient)}", *given, *sizes, out, torch.get_num_threads())
    return out
