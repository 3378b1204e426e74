"""The fused pass: one kernel computes scores, losses and gradients of a batch while its rows are in the cache.

Without it, scores are computed first, then the loss from the scores, and autograd goes backward through both.
`discriminator/fused.py` decides whether the fused pass is used.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.lookup import Lookup
from embedding.scoring.candidates import Candidates
from kernels.contrast import contrast
from kernels.losses import KernelLoss
from kernels.pairs import Comparison
from kernels.precision import Precision
from kernels.row_sources import GatheredGradient, PairGradient


@dataclass(frozen=True)
class FusedLoss:
    """The loss that the fused pass computes, and its inputs other than rows. None of them depends on the scores."""

    kernel: KernelLoss
    known: Bool[Tensor, "B N"] | None
    """True where a negative is left out of the loss; None: none is left out."""
    weight: Float64[Tensor, " B"]
    """The weight of each positive's loss in the mean over the global batch."""


@dataclass(frozen=True)
class FusedScores:
    """The result of the fused pass. Only `loss` is differentiable; the scores have no gradient."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    loss: Float64[Tensor, ""]
    """The sum over positives of weight * loss."""


def fused_scores(
    comparison: Comparison,
    query: Float[Tensor, "B E"],
    target: Candidates,
    candidates: Candidates,
    loss: FusedLoss,
    precision: Precision = Precision.FLOAT32,
) -> FusedScores:
    """Scores each query with its target and with the candidates of its chunk, and computes the loss.

    Args:
        comparison: how a query vector and a row are compared.
        query: one vector for each positive.
        target: the row of each positive's replaced entity.
        candidates: the rows of the negatives, [C, N] or [B, N].
        loss: the loss and its inputs.
        precision: what the factors of products are rounded to.
    """
    lookup, place = candidates.lookup, candidates.place.contiguous()
    given = query.contiguous(), comparison, lookup, target.place.flatten(), place, loss, precision
    return FusedScores(*cast(tuple[Tensor, Tensor, Tensor], _Fused.apply(lookup.handle, *given)))


class _Fused(torch.autograd.Function):
    """Forward computes the gradients together with the scores; backward multiplies them by the gradient of the loss."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        handle: Tensor,
        query: Tensor,
        comparison: Comparison,
        lookup: Lookup,
        target: Int64[Tensor, " B"],
        place: Int64[Tensor, "C N"],
        loss: FusedLoss,
        precision: Precision,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel, known = loss.kernel, loss.known
        mask = None if known is None else known.contiguous()
        options = kernel.kind, float(kernel.margin), float(kernel.temperature)
        made = contrast(comparison, *options, query, lookup.rows, place, target, mask, loss.weight, precision)
        ctx.made = made  # pyright: ignore[reportAttributeAccessIssue]
        ctx.of = query, comparison, lookup, target, place  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(made.positive, made.negative)
        return made.positive, made.negative, torch.dot(made.loss, loss.weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.made  # pyright: ignore[reportAttributeAccessIssue]
        query, comparison, lookup, target, place = ctx.of  # pyright: ignore[reportAttributeAccessIssue]
        slope = gradient[2]
        parts = made.by_candidate, made.by_positive, made.by_query
        if slope.is_cuda or float(slope) != 1:  # on a GPU, the processor would wait for the comparison
            parts = torch._foreach_mul(parts, slope.to(query.dtype))  # one kernel for all
        by_candidate, by_positive, by_query = parts
        pieces = by_candidate.shape[1]
        places = place if pieces == 1 else place[:, None].expand(-1, pieces, -1)
        lookup.add(GatheredGradient(places.flatten(), by_candidate.view(-1, query.shape[1])))
        # Detached: the look-up would hold the graph of the queries, and that graph holds the look-up. Such a cycle goes
        # through C++, where Python's collector can't find it.
        positive = by_positive[:, None], made.positive[:, None], query.detach()
        lookup.add(PairGradient(target[:, None], comparison, *positive))
        return lookup.handle.new_zeros(0), by_query, None, None, None, None, None, None
