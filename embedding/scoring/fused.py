"""The fused pass: one kernel makes scores, losses and gradients of a batch while its rows are in the processor's cache.

Without it scores are made first, then the loss from scores, and autograd goes back through both. When it is used is
decided in one place, `discriminator/fused.py`.
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
from kernels.rows import GatheredGradient, PairGradient


@dataclass(frozen=True)
class FusedLoss:
    """What the fused pass takes beside the rows: all of it is known before the scores are."""

    kernel: KernelLoss
    known: Bool[Tensor, "B N"] | None
    """True where a negative is left out of the loss; None if none is."""
    weight: Float64[Tensor, " B"]
    """The share of each positive's loss in the global mean."""


@dataclass(frozen=True)
class FusedScores:
    """What the fused pass gives. Backpropagate through `loss`; the scores have no gradient."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    loss: Float64[Tensor, ""]
    """The sum over positives of weight times loss."""


def fused_scores(
    comparison: Comparison, query: Float[Tensor, "B E"], target: Candidates, candidates: Candidates, loss: FusedLoss
) -> FusedScores:
    """Compares queries with their targets and with the candidates of their chunk, and makes the loss of the scores."""
    lookup, place = candidates.lookup, candidates.place.contiguous()
    given = query.contiguous(), comparison, lookup, target.place.flatten(), place, loss
    return FusedScores(*cast(tuple[Tensor, Tensor, Tensor], _Fused.apply(lookup.handle, *given)))


class _Fused(torch.autograd.Function):
    """Forward makes all gradients, because it has the scores at hand; backward multiplies them by the loss's own."""

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel, known = loss.kernel, loss.known
        mask, weight = None if known is None else known.contiguous(), loss.weight.to(query.dtype)
        options = kernel.kind, float(kernel.margin), float(kernel.temperature)
        made = contrast(comparison, *options, query, lookup.rows, place, target, mask, weight)
        ctx.made = made  # pyright: ignore[reportAttributeAccessIssue]
        ctx.of = query, comparison, lookup, target, place  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(made.positive, made.negative)
        return made.positive, made.negative, torch.dot(made.loss.double(), loss.weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.made  # pyright: ignore[reportAttributeAccessIssue]
        query, comparison, lookup, target, place = ctx.of  # pyright: ignore[reportAttributeAccessIssue]
        slope = float(gradient[2])
        parts = made.by_candidate, made.by_positive, made.by_query
        if slope != 1:
            parts = tuple(part * slope for part in parts)
        by_candidate, by_positive, by_query = parts
        pieces = by_candidate.shape[1]
        places = place if pieces == 1 else place[:, None].expand(-1, pieces, -1)
        lookup.add(GatheredGradient(places.flatten(), by_candidate.view(-1, query.shape[1])))
        positive = by_positive[:, None], made.positive[:, None], query
        lookup.add(PairGradient(target[:, None], comparison, *positive))
        return lookup.handle.new_zeros(0), by_query, None, None, None, None, None
