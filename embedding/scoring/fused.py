"""The fused path: scores of a shared pool, their loss and all gradients, made by one kernel in one walk over the rows.

It computes what scoring first and the loss afterwards would, in less time: see kernels/contrast.cpp. When it is taken
is decided in one place, `discriminator/fused.py`.
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
    """A loss as the fused path takes it, known before the scores are."""

    loss: KernelLoss
    known: Bool[Tensor, "B N"] | None
    """True where a negative is to be left out."""
    weight: Float64[Tensor, " B"]
    """The share of each query's loss in the global mean."""


def fused_scores(
    kind: Comparison, query: Float[Tensor, "B E"], target: Candidates, candidates: Candidates, fused: FusedLoss
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"], Float64[Tensor, ""]]:
    """Scores of queries with their target and with the candidates of their chunk, and the loss of these scores.

    Returns:
        The scores of positives and of negatives, without gradient, and the sum of weight times loss, with one.
    """
    lookup, place = candidates.lookup, candidates.place.contiguous()
    given = query.contiguous(), kind, lookup, target.place.flatten(), place, fused
    return cast(tuple[Tensor, Tensor, Tensor], _Fused.apply(lookup.handle, *given))


class _Fused(torch.autograd.Function):
    """All gradients are made in forward, when the scores are at hand; backward hands them on."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        handle: Tensor,
        query: Tensor,
        kind: Comparison,
        lookup: Lookup,
        target: Int64[Tensor, " B"],
        place: Int64[Tensor, "C N"],
        fused: FusedLoss,
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, known = fused.loss, fused.known
        mask, weight = None if known is None else known.contiguous(), fused.weight.to(query.dtype)
        options = loss.kind, float(loss.margin), float(loss.temperature)
        made = contrast(kind, *options, query, lookup.rows, place, target, mask, weight)
        ctx.made = made  # pyright: ignore[reportAttributeAccessIssue]
        ctx.of = query, kind, lookup, target, place  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(made.positive, made.negative)
        return made.positive, made.negative, torch.dot(made.loss.double(), fused.weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.made  # pyright: ignore[reportAttributeAccessIssue]
        query, kind, lookup, target, place = ctx.of  # pyright: ignore[reportAttributeAccessIssue]
        slope = float(gradient[2])
        parts = made.by_candidate, made.by_positive, made.by_query
        if slope != 1:
            parts = tuple(part * slope for part in parts)
        by_candidate, by_positive, by_query = parts
        pieces = by_candidate.shape[1]
        places = place if pieces == 1 else place[:, None].expand(-1, pieces, -1)
        lookup.add(GatheredGradient(places.flatten(), by_candidate.view(-1, query.shape[1])))
        positive = by_positive[:, None], made.positive[:, None], query
        lookup.add(PairGradient(target[:, None], kind, *positive))
        return lookup.handle.new_zeros(0), by_query, None, None, None, None, None
