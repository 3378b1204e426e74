"""Queries from entity and relation rows where they lie, and their gradients, one program for each query."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kernels.gathered import whole_sums
from kernels.gpu.numbers import integer
from kernels.queries import Combination, HeadRows

_NUMBERS = 128
_KINDS = list(Combination)
_TRANSLATION, _ROTATION = (tl.constexpr(_KINDS.index(each)) for each in (Combination.TRANSLATION, Combination.ROTATION))
_QUERY, _BY_ENTITY, _BY_RELATION = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit(do_not_specialize=["head_rows"])
@no_type_check
def _combine(
    left, place, right, relation, out, head_rows, width, KIND: tl.constexpr, OF: tl.constexpr, E: tl.constexpr
):
    """Row b of `out` is made of left[place[b]], or of left[b] for gradients, and of right[relation[b]]."""
    b = tl.program_id(0).to(tl.int64)
    part = width // 2 if KIND == _ROTATION else width
    e = tl.program_id(1) * E + tl.arange(0, E)
    here = e < part
    one = left + (tl.load(place + b) if OF == _QUERY else b) * width + e
    other = right + tl.load(relation + b).to(tl.int64) * width + e
    to = out + b * width + e
    # A query for heads has the conjugate, or the negative, of the relation's row.
    turned = tl.where(b < integer(head_rows), -1.0, 1.0)
    real = tl.load(one, mask=here, other=0.0)
    right_real = tl.load(other, mask=here, other=0.0).to(real.dtype)  # relations are float64
    if KIND == _ROTATION:
        sign = turned if OF == _QUERY else -turned
        imaginary = tl.load(one + part, mask=here, other=0.0)
        right_imaginary = sign * tl.load(other + part, mask=here, other=0.0).to(real.dtype)
        if OF == _BY_RELATION:
            imaginary = turned * imaginary
        tl.store(to, real * right_real - imaginary * right_imaginary, mask=here)
        tl.store(to + part, real * right_imaginary + imaginary * right_real, mask=here)
    elif KIND == _TRANSLATION:
        tl.store(to, turned * real if OF == _BY_RELATION else real + turned * right_real, mask=here)
    else:
        tl.store(to, real * right_real, mask=here)


def make_queries(
    kind: Combination,
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, " B"],
    relations: Float[Tensor, "R E"],
    relation: Int64[Tensor, " B"],
    head_rows: HeadRows,
) -> Float[Tensor, "B E"]:
    """As `kernels.queries.make_queries`, which checks the shapes, as for the others."""
    return _combined(kind, _QUERY, rows, place, relations, relation, head_rows)


def entity_gradient(
    kind: Combination,
    gradient: Float[Tensor, "B E"],
    relations: Float[Tensor, "R E"],
    relation: Int64[Tensor, " B"],
    head_rows: HeadRows,
) -> Float[Tensor, "B E"]:
    """As `kernels.queries.entity_gradient`."""
    return _combined(kind, _BY_ENTITY, gradient, relation, relations, relation, head_rows)


def relation_gradient(
    kind: Combination,
    gradient: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, " B"],
    relation: Int64[Tensor, " B"],
    num_relations: int,
    head_rows: HeadRows,
) -> Float64[Tensor, "R E"]:
    """As `kernels.queries.relation_gradient`."""
    of_query = _combined(kind, _BY_RELATION, gradient, place, rows, place, head_rows)
    return whole_sums(relation, of_query, num_relations, torch.float64, few=True)


def _combined(
    kind: Combination,
    of: tl.constexpr,
    left: Tensor,
    place: Tensor,
    right: Tensor,
    relation: Tensor,
    head_rows: HeadRows,
) -> Tensor:
    queries, width = len(relation), left.shape[1]
    out = left.new_empty((queries, width))
    if out.numel():
        part = width // 2 if kind == Combination.ROTATION else width
        options = {"KIND": _KINDS.index(kind), "OF": of.value, "E": _NUMBERS}
        _combine[queries, triton.cdiv(part, _NUMBERS)](left, place, right, relation, out, head_rows, width, **options)
    return out
