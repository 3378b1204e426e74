"""Scores queries against shared pools and computes the loss and its gradients in one call (contrast.cpp)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from kernels.gpu.available import usable_on_gpu
from kernels.library import call, type_name, usable
from kernels.losses import RowLoss
from kernels.pairs import Comparison
from kernels.precision import Precision
from kernels.products import products
from kernels.shapes import expect_shape, per_chunk

_PIECE = 256
"""Queries handled together; must equal PIECE in contrast.cpp."""
_ON_CPU = (Comparison.DOT, Comparison.L2)
MOST_ON_GPU = 2048
"""Candidates of a query on a GPU, where a program keeps all their scores in registers."""


@dataclass(frozen=True)
class Contrast:
    """Scores, losses and gradients; gradients are of the sum of weight times loss."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    loss: Float64[Tensor, " B"]
    by_positive: Float[Tensor, " B"]
    """Gradient by each positive's score; `by_query` already includes what follows from it."""
    by_query: Float[Tensor, "B E"]
    by_candidate: Float[Tensor, "C P N E"]
    """Gradient by the candidates, in P parts, one for each 256 queries of a chunk; add them up."""


def has_contrast(kind: Comparison, rows: Tensor, precision: Precision = Precision.FLOAT32) -> bool:
    """Whether there is a kernel for this comparison where these rows are; whether it can be used is `can_contrast`.

    With rounded factors there is one on a GPU alone, of dot products.
    """
    if precision != Precision.FLOAT32:
        return kind == Comparison.DOT and usable_on_gpu(rows)
    return kind in _ON_CPU or usable_on_gpu(rows)


def can_contrast(kind: Comparison, rows: Tensor) -> bool:
    """Whether `contrast` can compute this comparison of such rows; a CPU needs products that a kernel can call.

    On a GPU, it takes `MOST_ON_GPU` candidates at most.
    """
    if usable_on_gpu(rows):
        return True
    return kind in _ON_CPU and usable(rows) and products() is not None


def contrast(
    kind: Comparison,
    loss: RowLoss,
    margin: float,
    temperature: float,
    query: Float[Tensor, "B E"],
    rows: Float[Tensor, "U E"],
    place: Int64[Tensor, "C N"],
    target: Int64[Tensor, " B"],
    known: Bool[Tensor, "B N"] | None,
    weight: Float64[Tensor, " B"],
    precision: Precision = Precision.FLOAT32,
) -> Contrast:
    """Scores queries with rows[target] and with rows[place] of their chunk, then computes the loss and gradients.

    Args:
        known: True for negatives that the loss leaves out; None: none.
        weight: the weight of each query's loss in the sum that gradients are of.
        precision: what the factors of products are rounded to: see `has_contrast`.

    Raises:
        RuntimeError: `products()` is None.
        ValueError: shapes do not fit, there are more candidates than a GPU takes, or no kernel rounds so.
    """
    (chunks, candidates), (queries, width) = place.shape, query.shape
    size = per_chunk(queries, chunks)
    expect_shape("rows", rows, len(rows), width)
    expect_shape("target", target, queries)
    expect_shape("known", known, queries, candidates)
    expect_shape("weight", weight, queries)
    if precision != Precision.FLOAT32 and not has_contrast(kind, rows, precision):
        raise ValueError(f"no kernel of {kind} rounds factors to {precision} where these rows are")
    if usable_on_gpu(query, rows):
        import kernels.gpu.contrast as gpu

        if candidates > MOST_ON_GPU:
            raise ValueError(f"{candidates} candidates: a GPU takes at most {MOST_ON_GPU}")
        return gpu.contrast(kind, loss, margin, temperature, query, rows, place, target, known, weight, precision)
    library = products()
    if library is None:
        raise RuntimeError("there are no matrix products for contrast to call: ask can_contrast first")
    positive, losses, by_positive = query.new_empty((3, queries))
    negative, by_query = query.new_empty((queries, candidates)), torch.empty_like(query)
    by_candidate = query.new_empty((chunks, -(-size // _PIECE), candidates, width))
    name = f"contrast_{kind}_{loss}_{type_name(query)}"
    given = query, rows, place, target, known, weight.to(query.dtype)
    out = positive, negative, losses, by_positive, by_query, by_candidate
    sizes = chunks, size, candidates, width
    numbers = *sizes, margin, temperature
    call(name, *given, *out, *numbers, library.of(query.dtype), library.set_threads, torch.get_num_threads())
    return Contrast(positive, negative, losses.double(), by_positive, by_query, by_candidate)
